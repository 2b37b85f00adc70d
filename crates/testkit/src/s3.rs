//! An S3 server in this process, on a free port of the loopback interface.
//!
//! Requests, signatures, XML and errors are those of `s3s`, which speaks S3's protocol; what is
//! stored is in memory. It is as strict as S3 itself: keys of 1,024 bytes, pages of 1,000 names,
//! parts of 5 MiB. Conditional puts are not honoured, as in some servers: nobody may rely on them.

mod bucket;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

use bucket::Bucket;

const BUCKET: &str = "vault";
const KEY: &str = "loopback";
const SECRET: &str = "no secret at all";

/// A server with one empty bucket. It is gone, with all that it holds, when this is dropped.
#[derive(Debug)]
pub struct S3Server {
    address: SocketAddr,
    bucket: Bucket,
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
        runtime.spawn(serve(listener, service.build()));
        Ok(Self { address, bucket, runtime: Some(runtime) })
    }

    /// The `AWS_` variables that lead here, by name: for a child process, or, in lower case, for
    /// whoever takes settings.
    pub fn settings(&self) -> Vec<(String, String)> {
        let endpoint = format!("http://{}", self.address);
        let pairs = [
            ("AWS_ENDPOINT_URL", endpoint.as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "false"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
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

    /// Makes the next requests fail as a server does that has too much to do.
    pub fn refuse(&self, requests: u32) {
        self.bucket.refuse(requests);
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        // Dropping a runtime waits for it, which a thread of another one must not.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(listener: TcpListener, service: S3Service) {
    // That no more connections are to be had is seen by whoever wants one.
    while let Ok((socket, _)) = listener.accept().await {
        let connection =
            http1::Builder::new().serve_connection(TokioIo::new(socket), service.clone());
        // A client may go away at any time.
        tokio::spawn(async move { drop(connection.await) });
    }
}
