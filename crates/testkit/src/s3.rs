//! An S3 server in this process, on a free port of the loopback interface.
//!
//! Requests, signatures, XML and errors are those of `s3s`, which speaks S3's protocol; what is
//! stored is in memory. It is as strict as S3 itself: keys of 1,024 bytes, pages of 1,000 names,
//! parts of 5 MiB. Conditional puts are not honoured, as in some servers: nobody may rely on them.

mod bucket;
mod line;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

use bucket::Bucket;
use line::Line;

/// Where the servers of all tests say they are.
pub(crate) const REGION: &str = "us-east-1";

const BUCKET: &str = "vault";
const KEY: &str = "loopback";
const SECRET: &str = "no secret at all";

/// A server with one empty bucket. It is gone, with all that it holds, when this is dropped.
#[derive(Debug)]
pub struct S3Server {
    address: SocketAddr,
    bucket: Bucket,
    line: Line,
    /// Drives the server until it is taken away.
    runtime: Option<Runtime>,
}

impl S3Server {
    /// Starts a server.
    ///
    /// # Errors
    ///
    /// If there is no port or no thread to be had.
    pub fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let bucket = Bucket::new(BUCKET);
        let mut service = S3ServiceBuilder::new(bucket.clone());
        service.set_auth(SimpleAuth::from_single(KEY, SECRET));
        let line = Line::default();
        runtime.spawn(serve(listener, service.build(), line.clone()));
        Ok(Self { address, bucket, line, runtime: Some(runtime) })
    }

    /// The `AWS_` variables that lead here, by name: for a child process, or, in lower case, for
    /// whoever takes settings.
    pub fn settings(&self) -> Vec<(String, String)> {
        settings(self.address, KEY, SECRET)
    }

    /// The URL of a place in the bucket; an empty prefix means all of it.
    pub fn url(&self, prefix: &str) -> String {
        format!("s3://{BUCKET}/{prefix}")
    }

    /// The keys of all objects, in order.
    pub fn keys(&self) -> Vec<String> {
        self.bucket.keys()
    }

    /// How many uploads in parts were begun and neither completed nor aborted. Whoever pays for
    /// the bucket pays for them too, and no listing shows them.
    pub fn unfinished_uploads(&self) -> usize {
        self.bucket.unfinished_uploads()
    }

    /// Takes an object away behind everybody's back.
    pub fn remove(&self, key: &str) {
        self.bucket.remove(key);
    }

    /// How many requests came so far, refused ones counted.
    pub fn requests(&self) -> u64 {
        self.bucket.requests()
    }

    /// Makes the next requests fail as a server does that has too much to do.
    pub fn refuse(&self, requests: u32) {
        self.bucket.refuse(requests);
    }

    /// Makes one of so many requests fail like that from now on. 0 is none.
    pub fn refuse_one_of(&self, requests: u64) {
        self.bucket.refuse_one_of(requests);
    }

    /// Answers every request this much later.
    pub fn delay(&self, by: Duration) {
        self.line.delay(by);
    }

    /// Breaks two of three connections that are made from now on, somewhere in the first so many
    /// bytes of what is sent on them: perhaps before an answer, perhaps in the middle of one, some in good
    /// order and some not. 0 is none.
    pub fn cut_within(&self, bytes: u64) {
        self.line.cut_within(bytes);
    }
}

/// The `AWS_` variables that lead to a server.
pub(crate) fn settings(address: SocketAddr, key: &str, secret: &str) -> Vec<(String, String)> {
    let endpoint = format!("http://{address}");
    let pairs = [
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "false"),
        ("AWS_REGION", REGION),
        ("AWS_ACCESS_KEY_ID", key),
        ("AWS_SECRET_ACCESS_KEY", secret),
    ];
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}

impl Drop for S3Server {
    fn drop(&mut self) {
        // Dropping a runtime waits for it, which a thread of another one must not.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(listener: TcpListener, service: S3Service, line: Line) {
    // That no more connections are to be had is seen by whoever wants one.
    while let Ok((socket, _)) = listener.accept().await {
        let (service, slow) = (service.clone(), line.clone());
        let answer = service_fn(move |request: Request<Incoming>| {
            let (answer, slow) = (Service::call(&service, request), slow.clone());
            async move {
                slow.wait().await;
                answer.await
            }
        });
        let connection =
            http1::Builder::new().serve_connection(TokioIo::new(line.over(socket)), answer);
        // A client may go away at any time.
        tokio::spawn(async move { drop(connection.await) });
    }
}
