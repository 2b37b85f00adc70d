//! What an S3 server holds: objects by key, and uploads that are not complete.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use s3s::dto::*;
use s3s::{Body, S3, S3Request, S3Response, S3Result, s3_error};

/// What one listing gives at most.
const PAGE: usize = 1_000;

/// What every part but the last has at least.
const PART_MIN: usize = 5 << 20;

/// A bucket in memory. Clones are the same bucket.
#[derive(Clone, Debug)]
pub struct Bucket {
    name: Arc<str>,
    content: Arc<Mutex<Content>>,
}

#[derive(Debug, Default)]
struct Content {
    objects: BTreeMap<String, Stored>,
    uploads: BTreeMap<String, Upload>,
    /// Makes identifiers that were never used before.
    counter: u64,
    /// How many requests are still to be refused.
    refusals: u32,
    /// Of how many requests one is refused; 0 for none.
    refused_of: u64,
    requests: u64,
}

#[derive(Clone, Debug)]
struct Stored {
    bytes: Bytes,
    tag: String,
    at: SystemTime,
}

#[derive(Debug)]
struct Upload {
    key: String,
    parts: BTreeMap<PartNumber, Stored>,
}

impl Content {
    fn unique(&mut self) -> String {
        self.counter += 1;
        format!("{:08x}", self.counter)
    }

    fn stored(&mut self, bytes: Bytes) -> Stored {
        Stored { bytes, tag: self.unique(), at: SystemTime::now() }
    }
}

impl Bucket {
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), content: Arc::default() }
    }

    pub fn keys(&self) -> Vec<String> {
        self.content().objects.keys().cloned().collect()
    }

    pub fn remove(&self, key: &str) {
        self.content().objects.remove(key);
    }

    pub fn unfinished_uploads(&self) -> usize {
        self.content().uploads.len()
    }

    pub fn refuse(&self, requests: u32) {
        self.content().refusals = requests;
    }

    pub fn requests(&self) -> u64 {
        self.content().requests
    }

    pub fn refuse_one_of(&self, requests: u64) {
        self.content().refused_of = requests;
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a request in: it must be about this bucket, and the server must not be busy.
    fn enter(&self, bucket: &str) -> S3Result<MutexGuard<'_, Content>> {
        let mut content = self.content();
        content.requests += 1;
        if let Some(left) = content.refusals.checked_sub(1) {
            content.refusals = left;
            return Err(s3_error!(SlowDown));
        }
        if content.requests.checked_rem(content.refused_of) == Some(0) {
            return Err(s3_error!(SlowDown));
        }
        if bucket != &*self.name {
            return Err(s3_error!(NoSuchBucket));
        }
        Ok(content)
    }
}

/// All bytes of a body, if they are as many as were announced.
async fn receive(body: Option<StreamingBlob>, announced: Option<i64>) -> S3Result<Bytes> {
    let mut bytes = BytesMut::new();
    if let Some(mut body) = body {
        let cut = |_| s3_error!(IncompleteBody);
        while let Some(piece) = body.try_next().await.map_err(cut)? {
            bytes.extend_from_slice(&piece);
        }
    }
    match announced {
        Some(announced) if announced != length(bytes.len())? => Err(s3_error!(IncompleteBody)),
        _ => Ok(bytes.freeze()),
    }
}

fn length(len: usize) -> S3Result<i64> {
    i64::try_from(len).map_err(|_| s3_error!(EntityTooLarge))
}

fn tag(stored: &Stored) -> Option<ETag> {
    Some(ETag::Strong(stored.tag.clone()))
}

/// One page of a listing.
#[derive(Default)]
struct Page {
    contents: Vec<Object>,
    prefixes: Vec<CommonPrefix>,
    /// What the next page begins behind, if there is one.
    next: Option<String>,
}

impl Content {
    fn page(
        &self,
        prefix: &str,
        delimiter: Option<&str>,
        after: &str,
        limit: usize,
    ) -> S3Result<Page> {
        let mut page = Page::default();
        let mut last = after.to_owned();
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let listed = self.objects.range::<str, _>(from);
        for (key, stored) in listed.take_while(|(key, _)| key.starts_with(prefix)) {
            let rest = &key[prefix.len()..];
            let directory = delimiter.and_then(|delimiter| {
                let end = rest.find(delimiter)? + delimiter.len();
                Some(format!("{prefix}{}", &rest[..end]))
            });
            let shown = directory.as_ref().unwrap_or(key);
            if *shown <= last {
                continue;
            }
            if page.contents.len() + page.prefixes.len() == limit {
                page.next = Some(last);
                break;
            }
            last.clone_from(shown);
            match directory {
                Some(prefix) => page.prefixes.push(CommonPrefix { prefix: Some(prefix) }),
                None => page.contents.push(Object {
                    key: Some(key.clone()),
                    size: Some(length(stored.bytes.len())?),
                    e_tag: tag(stored),
                    last_modified: Some(stored.at.into()),
                    ..Object::default()
                }),
            }
        }
        Ok(page)
    }

    /// The upload of that identifier, if it is one of that key.
    fn upload(&mut self, id: &str, key: &str) -> S3Result<&mut Upload> {
        let upload = self.uploads.get_mut(id).filter(|upload| upload.key == key);
        upload.ok_or_else(|| s3_error!(NoSuchUpload))
    }
}

impl Upload {
    /// Joins the parts that the client names, in its order.
    fn join(&self, named: Vec<CompletedPart>) -> S3Result<Bytes> {
        let mut bytes = BytesMut::new();
        let mut before = 0;
        for (at, part) in named.iter().enumerate() {
            let number = part.part_number.ok_or_else(|| s3_error!(InvalidPart))?;
            let stored = self.parts.get(&number).ok_or_else(|| s3_error!(InvalidPart))?;
            if part.e_tag != tag(stored) {
                return Err(s3_error!(InvalidPart));
            }
            if number <= before {
                return Err(s3_error!(InvalidPartOrder));
            }
            if at + 1 < named.len() && stored.bytes.len() < PART_MIN {
                return Err(s3_error!(EntityTooSmall));
            }
            before = number;
            bytes.extend_from_slice(&stored.bytes);
        }
        Ok(bytes.freeze())
    }
}

#[async_trait]
impl S3 for Bucket {
    async fn put_object(
        &self,
        req: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let input = req.input;
        drop(self.enter(&input.bucket)?);
        let bytes = receive(input.body, input.content_length).await?;
        let mut content = self.content();
        let stored = content.stored(bytes);
        let e_tag = tag(&stored);
        content.objects.insert(input.key, stored);
        Ok(S3Response::new(PutObjectOutput { e_tag, ..Default::default() }))
    }

    async fn get_object(
        &self,
        req: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let content = self.enter(&req.input.bucket)?;
        let stored = content.objects.get(&req.input.key).ok_or_else(|| s3_error!(NoSuchKey))?;
        let whole = stored.bytes.len() as u64;
        let mut bytes = stored.bytes.clone();
        let mut content_range = None;
        if let Some(range) = req.input.range {
            let range = range.check(whole)?;
            content_range = Some(format!("bytes {}-{}/{whole}", range.start, range.end - 1));
            let place = |at| usize::try_from(at).map_err(|_| s3_error!(InvalidRange));
            bytes = bytes.slice(place(range.start)?..place(range.end)?);
        }
        Ok(S3Response::new(GetObjectOutput {
            content_length: Some(length(bytes.len())?),
            content_range,
            body: Some(Body::from(bytes).into()),
            e_tag: tag(stored),
            last_modified: Some(stored.at.into()),
            ..Default::default()
        }))
    }

    async fn list_objects_v2(
        &self,
        req: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = req.input;
        let content = self.enter(&input.bucket)?;
        let prefix = input.prefix.clone().unwrap_or_default();
        let after = input.continuation_token.clone().or(input.start_after.clone());
        let wanted = input.max_keys.and_then(|keys| usize::try_from(keys).ok());
        let limit = wanted.map_or(PAGE, |wanted| wanted.min(PAGE));
        let after = after.unwrap_or_default();
        let page = content.page(&prefix, input.delimiter.as_deref(), &after, limit)?;
        let count = length(page.contents.len() + page.prefixes.len())?;
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: input.prefix,
            delimiter: input.delimiter,
            continuation_token: input.continuation_token,
            key_count: i32::try_from(count).ok(),
            is_truncated: Some(page.next.is_some()),
            next_continuation_token: page.next,
            contents: Some(page.contents),
            common_prefixes: Some(page.prefixes),
            ..Default::default()
        }))
    }

    async fn delete_object(
        &self,
        req: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.enter(&req.input.bucket)?.objects.remove(&req.input.key);
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn delete_objects(
        &self,
        req: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let mut content = self.enter(&req.input.bucket)?;
        let mut deleted = Vec::new();
        for object in req.input.delete.objects {
            content.objects.remove(&object.key);
            deleted.push(DeletedObject { key: Some(object.key), ..Default::default() });
        }
        let deleted = Some(deleted);
        Ok(S3Response::new(DeleteObjectsOutput { deleted, ..Default::default() }))
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = req.input;
        let mut content = self.enter(&input.bucket)?;
        let id = content.unique();
        let upload = Upload { key: input.key.clone(), parts: BTreeMap::new() };
        content.uploads.insert(id.clone(), upload);
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(id),
            ..Default::default()
        }))
    }

    async fn upload_part(
        &self,
        req: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let input = req.input;
        drop(self.enter(&input.bucket)?);
        let bytes = receive(input.body, input.content_length).await?;
        let mut content = self.content();
        let stored = content.stored(bytes);
        let e_tag = tag(&stored);
        let upload = content.upload(&input.upload_id, &input.key)?;
        upload.parts.insert(input.part_number, stored);
        Ok(S3Response::new(UploadPartOutput { e_tag, ..Default::default() }))
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = req.input;
        let mut content = self.enter(&input.bucket)?;
        let named = input.multipart_upload.and_then(|named| named.parts).unwrap_or_default();
        if named.is_empty() {
            return Err(s3_error!(MalformedXML));
        }
        let bytes = content.upload(&input.upload_id, &input.key)?.join(named)?;
        let stored = content.stored(bytes);
        let e_tag = tag(&stored);
        content.objects.insert(input.key.clone(), stored);
        content.uploads.remove(&input.upload_id);
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag,
            ..Default::default()
        }))
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let mut content = self.enter(&req.input.bucket)?;
        content.upload(&req.input.upload_id, &req.input.key)?;
        content.uploads.remove(&req.input.upload_id);
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }
}
