//! Which server the name of a registry means.
//!
//! `docker.io` lives elsewhere; registries on this machine and those declared insecure may speak plain HTTP, which is found
//! out once, by trying TLS first. Mirrors come before the registry they mirror, for pulls.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use reqwest::{Method, Url};

use super::error::RegistryError;
use crate::once::OnceMap;
use crate::transport::{Outgoing, Transport, TransportError, Trust};

const HUB: &str = "docker.io";
const HUB_SERVER: &str = "registry-1.docker.io";

/// One server.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    /// The address before `v2/`.
    pub(super) base: Url,
    /// The name credentials are looked up by.
    pub(super) registry: String,
    pub(super) trust: Trust,
    /// The registry this is a mirror of.
    pub(super) mirror_of: Option<String>,
}

impl Endpoint {
    /// Returns the address of something in a repository.
    pub(super) fn url(&self, repository: &str, rest: &str) -> Url {
        let mut url = self
            .base
            .join(&format!("v2/{repository}/{rest}"))
            .expect("names of repositories and tags are safe in paths");
        if let Some(origin) = &self.mirror_of {
            url.query_pairs_mut().append_pair("ns", origin);
        }
        url
    }

    /// Returns scheme, host and port, which is what limits and logins go by.
    pub(super) fn origin(&self) -> String {
        self.base.origin().ascii_serialization()
    }

    pub(super) fn host(&self) -> String {
        self.base
            .origin()
            .ascii_serialization()
            .split_once("://")
            .map_or_else(String::new, |(_, host)| host.to_owned())
    }
}

/// All servers.
pub(super) struct Endpoints {
    insecure: BTreeSet<String>,
    mirrors: BTreeMap<String, Vec<String>>,
    found: OnceMap<String, Endpoint>,
}

impl Endpoints {
    pub(super) fn new(insecure: &[String], mirrors: &BTreeMap<String, Vec<String>>) -> Self {
        Self { insecure: insecure.iter().cloned().collect(), mirrors: mirrors.clone(), found: OnceMap::new() }
    }

    /// Returns the registry's own server.
    pub(super) async fn origin(
        &self,
        transport: &Transport,
        registry: &str,
    ) -> Result<Endpoint, RegistryError> {
        let find = || async {
            let server = if registry == HUB { HUB_SERVER } else { registry };
            self.probe(transport, registry, server).await
        };
        self.found.get_or_try_init(registry.to_owned(), find).await
    }

    /// Returns the servers to pull from, best first.
    pub(super) async fn for_pull(
        &self,
        transport: &Transport,
        registry: &str,
    ) -> Result<Vec<Endpoint>, RegistryError> {
        let mut all = Vec::new();
        for mirror in self.mirrors.get(registry).into_iter().flatten() {
            let mut endpoint = match mirror.contains("://") {
                true => self.at(mirror)?,
                false => self.origin(transport, mirror).await?,
            };
            endpoint.mirror_of = Some(registry.to_owned());
            all.push(endpoint);
        }
        all.push(self.origin(transport, registry).await?);
        Ok(all)
    }

    /// Reads a mirror's address with its scheme, and perhaps a path.
    fn at(&self, address: &str) -> Result<Endpoint, RegistryError> {
        let bad = || RegistryError::Address { text: address.to_owned() };
        let base = Url::parse(&format!("{}/", address.trim_end_matches('/'))).map_err(|_| bad())?;
        if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
            return Err(bad());
        }
        let mut endpoint = Endpoint { registry: String::new(), trust: Trust::Strict, mirror_of: None, base };
        endpoint.registry = endpoint.host();
        endpoint.trust = self.trust(&endpoint.registry);
        Ok(endpoint)
    }

    async fn probe(
        &self,
        transport: &Transport,
        registry: &str,
        server: &str,
    ) -> Result<Endpoint, RegistryError> {
        let bad = |_| RegistryError::Address { text: registry.to_owned() };
        let trust = self.trust(registry);
        let base = Url::parse(&format!("https://{server}/")).map_err(bad)?;
        let mut endpoint = Endpoint { base, registry: registry.to_owned(), trust, mirror_of: None };
        if trust == Trust::Lax {
            let url = endpoint.base.join("v2/").expect("it is a plain path");
            let hello = Outgoing { trust, ..Outgoing::new(Method::GET, url) };
            if let Err(TransportError::Unreachable { .. } | TransportError::Broken { .. }) =
                transport.send_once(&hello).await
            {
                endpoint.base = Url::parse(&format!("http://{server}/")).map_err(bad)?;
            }
        }
        Ok(endpoint)
    }

    fn trust(&self, registry: &str) -> Trust {
        let host = host_of(registry);
        let declared = self.insecure.contains(registry) || self.insecure.contains(host);
        if declared || is_this_machine(host) { Trust::Lax } else { Trust::Strict }
    }
}

/// Drops the port.
fn host_of(registry: &str) -> &str {
    match registry.rfind(':') {
        Some(colon) if !registry[colon..].contains(']') => &registry[..colon],
        _ => registry,
    }
}

fn is_this_machine(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_and_declared_hosts_need_no_certificate() {
        let endpoints =
            Endpoints::new(&["lab.example.com".to_owned(), "x:5000".to_owned()], &BTreeMap::new());
        for lax in [
            "localhost",
            "localhost:5000",
            "127.0.0.1:5000",
            "127.8.8.8",
            "[::1]:5000",
            "lab.example.com:1",
            "x:5000",
        ] {
            assert_eq!(endpoints.trust(lax), Trust::Lax, "{lax}");
        }
        for strict in ["docker.io", "localhost.example.com", "x:5001", "x", "192.168.0.1:5000", "[::2]:5000"]
        {
            assert_eq!(endpoints.trust(strict), Trust::Strict, "{strict}");
        }
    }

    #[tokio::test]
    async fn docker_hub_lives_elsewhere_and_mirrors_come_first() {
        let mirrors = [("docker.io".to_owned(), vec!["https://mirror.example.com/hub".to_owned()])].into();
        let endpoints = Endpoints::new(&[], &mirrors);
        let transport = Transport::new(&Default::default()).unwrap();
        let found = endpoints.for_pull(&transport, "docker.io").await.unwrap();
        let urls: Vec<String> =
            found.iter().map(|endpoint| endpoint.url("library/app", "tags/list").to_string()).collect();
        assert_eq!(
            urls,
            [
                "https://mirror.example.com/hub/v2/library/app/tags/list?ns=docker.io",
                "https://registry-1.docker.io/v2/library/app/tags/list",
            ]
        );
        assert_eq!(found[0].registry, "mirror.example.com");
        let bad = Endpoints::new(&[], &[("docker.io".to_owned(), vec!["ftp://x".to_owned()])].into());
        assert!(matches!(bad.for_pull(&transport, "docker.io").await, Err(RegistryError::Address { .. })));
    }
}
