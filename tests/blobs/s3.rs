//! A real S3 server in this process, over a directory, which asks for credentials. It can be told to refuse. May not:
//! be reached from another machine.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use hyper::Response;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use regatta_store::{Blobs, Error};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::place::files;

/// What the server knows.
pub const ID: &str = "AKIDREGATTA";
pub const SECRET: &str = "the secret of the boats";

/// What requests met.
#[derive(Default)]
pub struct Seen {
    /// Parts of uploads that were answered.
    pub parts: AtomicUsize,
    /// So many requests more are answered by 503.
    pub busy: AtomicUsize,
    /// So many parts more are answered, the others refused.
    pub parts_most: AtomicUsize,
    /// Requests that drop many at once.
    pub sweeps: AtomicUsize,
    /// Requests whose URL is signed, answered or refused.
    pub signed: AtomicUsize,
    /// Whether those are refused.
    pub signed_refused: AtomicBool,
}

pub struct S3 {
    directory: tempfile::TempDir,
    pub endpoint: String,
    pub seen: Arc<Seen>,
}

impl S3 {
    /// A server with the empty bucket `boats`.
    pub async fn start() -> Self {
        Self::serve(tempfile::tempdir().unwrap(), None).await
    }

    /// The same over TLS; [`Self::authority`] signed its certificate.
    pub async fn start_secure() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (certificate, key) = certify(directory.path());
        drop(rustls::crypto::ring::default_provider().install_default());
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        Self::serve(directory, Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn serve(directory: tempfile::TempDir, tls: Option<TlsAcceptor>) -> Self {
        let root = directory.path().join("root");
        std::fs::create_dir_all(root.join("boats")).unwrap();
        let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(&root).unwrap());
        service.set_auth(SimpleAuth::from_single(ID, SECRET));
        let service = service.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let endpoint = format!("{scheme}://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Seen::default());
        seen.parts_most.store(usize::MAX, Ordering::Relaxed);
        let told = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (service, seen, tls) = (service.clone(), Arc::clone(&told), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => answer(stream, service, seen).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                answer(stream, service, seen).await;
                            }
                        }
                    }
                });
            }
        });
        Self {
            directory,
            endpoint,
            seen,
        }
    }

    /// The variables that lead to it.
    pub fn variables(&self) -> Vec<(String, String)> {
        let variables = [
            ("AWS_ACCESS_KEY_ID", ID),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
            ("AWS_ENDPOINT_URL", &self.endpoint),
            ("AWS_ALLOW_HTTP", "true"),
        ];
        variables
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec()
    }

    pub async fn open(&self, url: &str) -> Result<Blobs, Error> {
        Blobs::open_with(url, self.variables()).await
    }

    /// As [`Self::open`], with one variable that is another one, or empty.
    pub async fn open_but(&self, url: &str, name: &str, value: &str) -> Result<Blobs, Error> {
        let mut variables = self.variables();
        variables.retain(|(known, _)| known != name);
        variables.push((name.to_owned(), value.to_owned()));
        Blobs::open_with(url, variables).await
    }

    /// Keys in the bucket, and what uploads have that are under way.
    pub fn left(&self) -> Vec<String> {
        let root = self.directory.path().join("root");
        let mut left = files(&root);
        // What the server notes about objects, gone ones too.
        left.retain(|file| !file.starts_with(".bucket-"));
        left
    }

    /// How long an object is.
    pub fn bytes(&self, key: &str) -> u64 {
        let file = self.directory.path().join("root").join(key);
        std::fs::metadata(file).unwrap().len()
    }

    /// The file with the authority that a client must trust.
    pub fn authority(&self) -> std::path::PathBuf {
        self.directory.path().join("ca")
    }
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin, service: S3Service, seen: Arc<Seen>) {
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let (service, seen) = (service.clone(), Arc::clone(&seen));
        async move {
            let query = request.uri().query().unwrap_or_default();
            let part = query.contains("partNumber=");
            if query.starts_with("delete") {
                seen.sweeps.fetch_add(1, Ordering::Relaxed);
            }
            let signed = query.contains("X-Amz-Signature=");
            if signed {
                seen.signed.fetch_add(1, Ordering::Relaxed);
            }
            let take = |left: &AtomicUsize| {
                let less = |left: usize| left.checked_sub(1);
                left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
                    .is_ok()
            };
            let refused = if take(&seen.busy) {
                Some(503)
            } else if part && !take(&seen.parts_most)
                || signed && seen.signed_refused.load(Ordering::Relaxed)
            {
                Some(403)
            } else {
                None
            };
            if let Some(status) = refused {
                let mut response = Response::new(s3s::Body::empty());
                *response.status_mut() = status.try_into().unwrap();
                return Ok(response);
            }
            let response = service.call(request.map(s3s::Body::from)).await;
            if part {
                seen.parts.fetch_add(1, Ordering::Relaxed);
            }
            response
        }
    });
    drop(
        http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .await,
    );
}

/// A certificate for the loopback address, by an authority in the file `ca`.
fn certify(directory: &Path) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let openssl = |arguments: &str| {
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(directory)
            .output()
            .expect("openssl is missing: apt-get install openssl");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {arguments}: {said}");
    };
    let new = "req -x509 -newkey rsa:2048 -nodes -days 2";
    openssl(&format!("{new} -subj /CN=ca -keyout ca.key -out ca"));
    openssl(&format!(
        "{new} -subj /CN=s3 -CA ca -CAkey ca.key -addext subjectAltName=IP:127.0.0.1 \
         -addext basicConstraints=critical,CA:FALSE -keyout key -out certificate"
    ));
    (
        CertificateDer::from_pem_file(directory.join("certificate")).unwrap(),
        PrivateKeyDer::from_pem_file(directory.join("key")).unwrap(),
    )
}
