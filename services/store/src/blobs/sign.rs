//! URLs by which somebody without credentials puts one blob into a bucket. May not: sign anything but making one blob
//! where there is none.

use std::collections::BTreeMap;
use std::time::Duration;

use object_store::aws::AmazonS3;
use object_store::path::Path;
use object_store::signer::{HeaderName, HeaderValue, Method, SignedUrlOptions, Signer as _};

use super::s3::Place;
use crate::Error;

/// How long a signed URL may be used, by the store's clock; an upload that began within it may end later.
pub const SIGNED_FOR: Duration = Duration::from_mins(15);
/// How long the credentials may take to come; those of a machine's role are fetched.
const SIGN_WITHIN: Duration = Duration::from_secs(5);

/// Nothing is replaced: what a host wrote once stays as it is, also while its URL still holds.
const CONDITION: (&str, &str) = ("if-none-match", "*");

/// A blob's place for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// For one PUT.
    pub url: String,
    /// What the request must say, by name.
    pub headers: BTreeMap<String, String>,
}

/// What signs for a bucket.
pub(super) struct Signer {
    place: Place,
    store: AmazonS3,
    prefix: Path,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").finish_non_exhaustive()
    }
}

impl Signer {
    pub(super) fn new(place: Place, prefix: Path) -> Result<Self, Error> {
        let store = place.build_to_sign()?;
        Ok(Self {
            place,
            store,
            prefix,
        })
    }

    /// The same for those who reach the bucket at another endpoint.
    pub(super) fn at(&self, name: &str, endpoint: &str) -> Result<Self, Error> {
        Self::new(self.place.at(name, endpoint)?, self.prefix.clone())
    }

    pub(super) async fn put(&self, path: &Path) -> object_store::Result<Signed> {
        let whole: Path = self.prefix.parts().chain(path.parts()).collect();
        let (name, value) = CONDITION;
        let condition = SignedUrlOptions::default().with_signed_header(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
        let signing = self
            .store
            .signed_url_opts(Method::PUT, &whole, SIGNED_FOR, &condition);
        let signed = tokio::time::timeout(SIGN_WITHIN, signing).await;
        let url = signed.map_err(|_| object_store::Error::Generic {
            store: "S3",
            source: "the credentials did not come in time (SIGN_WITHIN)".into(),
        })??;
        Ok(Signed {
            url: url.into(),
            headers: BTreeMap::from([(name.to_owned(), value.to_owned())]),
        })
    }
}
