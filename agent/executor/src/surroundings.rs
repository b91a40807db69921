//! What a container with the host's network gets of the host besides: names, proxies, trusted certificates.
//! May not: let anything else of the host's environment in.

use std::fs;
use std::path::PathBuf;

use regatta_model::container::{ContainerSpec, Network};

use crate::plan::CERTIFICATES;

/// Proxy variables, in both spellings.
const PROXIES: [&str; 8] = [
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
];
/// Variables that name a bundle of trusted certificates, each for some program.
const CERTIFICATE_NAMES: [&str; 5] = [
    "SSL_CERT_FILE",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "CURL_CA_BUNDLE",
];
/// Where distributions keep the bundle.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// The host's files are cut at this size, in bytes.
const FILE_MOST: usize = 1 << 20;

/// The three files that name things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    /// `/etc/hosts`.
    pub hosts: Vec<u8>,
    /// `/etc/hostname`.
    pub hostname: Vec<u8>,
    /// `/etc/resolv.conf`.
    pub resolv: Vec<u8>,
}

/// What these files say in a container.
pub(crate) fn names(spec: &ContainerSpec) -> Names {
    let own = format!(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t{}\n",
        spec.hostname
    );
    let (hosts, resolv) = match spec.network {
        Network::None => (own.into_bytes(), Vec::new()),
        Network::Host => {
            let mut hosts = read("/etc/hosts");
            if !hosts.is_empty() && !hosts.ends_with(b"\n") {
                hosts.push(b'\n');
            }
            hosts.extend_from_slice(own.as_bytes());
            (hosts, read("/etc/resolv.conf"))
        }
    };
    Names {
        hosts,
        hostname: format!("{}\n", spec.hostname).into_bytes(),
        resolv,
    }
}

fn read(path: &str) -> Vec<u8> {
    let mut bytes = fs::read(path).unwrap_or_default();
    bytes.truncate(FILE_MOST);
    bytes
}

/// The host's bundle of trusted certificates, as the executor was told or where distributions keep it.
pub(crate) fn certificates() -> Option<PathBuf> {
    let told = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    told.into_iter()
        .chain(BUNDLES.map(PathBuf::from))
        .find(|path| path.is_file())
}

/// The variables that a container with the host's network gets, unless it sets them itself.
pub(crate) fn environment(with_certificates: bool) -> Vec<(String, String)> {
    let mut env: Vec<(String, String)> = PROXIES
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
        .collect();
    if with_certificates {
        env.extend(CERTIFICATE_NAMES.map(|name| (name.to_owned(), CERTIFICATES.to_owned())));
    }
    env
}
