//! Which addresses a provider's requests may go to, decided after its name has been resolved.
//!
//! A name says nothing about where it leads, and may lead elsewhere the next time (DNS rebinding).
//! So the check is on the address itself, and the connection is made to exactly the addresses
//! checked, without a second look-up. External providers are reached on global addresses only.
//! Local ones may be on this machine, in private networks, or anywhere if the connection is
//! encrypted. Nobody reaches link-local addresses or the metadata services of clouds, which hand
//! out credentials to whoever asks.
//!
//! Bounds: [`SystemDns`] runs [`MAX_LOOKUPS`] look-ups at a time, since each blocks a thread; a
//! look-up has a deadline; a connection tries [`MAX_ADDRESSES`] addresses.

use std::{
    collections::HashMap,
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use keyward_contract::ProviderKind;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;
use url::Host;

/// Look-ups under way at once. The system's resolver blocks a thread for as long as ten seconds
/// when its server is dead; the other blocking work of the process must go on meanwhile.
pub const MAX_LOOKUPS: usize = 32;

/// Addresses of a name that are tried. They share the time to connect, so more would leave too
/// little for each.
pub const MAX_ADDRESSES: usize = 4;

/// What an address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Global,
    Loopback,
    /// RFC 1918.
    Private,
    /// The private addresses of IPv6, fc00::/7.
    UniqueLocal,
    /// 100.64.0.0/10, shared by carriers for their customers; also what Tailscale gives out.
    Shared,
    LinkLocal,
    /// Where clouds tell a machine about itself, credentials included.
    Metadata,
    Multicast,
    /// Unspecified, documentation, benchmarks, protocol assignments, tunnels, the future.
    Reserved,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Global => "a public address",
            Self::Loopback => "a loopback address",
            Self::Private | Self::UniqueLocal => "a private address",
            Self::Shared => "a shared address (100.64.0.0/10)",
            Self::LinkLocal => "a link-local address",
            Self::Metadata => "the address of a cloud's metadata service",
            Self::Multicast => "a multicast address",
            Self::Reserved => "a reserved address",
        })
    }
}

/// What an address is for. An address that embeds another (IPv4-mapped, NAT64) is what the
/// embedded one is; tunnels out of use (6to4, Teredo) are reserved.
pub fn classify(address: IpAddr) -> Class {
    match address {
        IpAddr::V4(address) => classify_v4(address),
        IpAddr::V6(address) => classify_v6(address),
    }
}

fn classify_v4(address: Ipv4Addr) -> Class {
    match address.octets() {
        // AWS and most others, AWS containers; Alibaba; Oracle; Azure.
        [169, 254, 169, 254]
        | [169, 254, 170, 2 | 23]
        | [100, 100, 100, 200]
        | [192, 0, 0, 192]
        | [168, 63, 129, 16] => Class::Metadata,
        [127, ..] => Class::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Class::Private,
        [100, 64..=127, ..] => Class::Shared,
        [169, 254, ..] => Class::LinkLocal,
        [224..=239, ..] => Class::Multicast,
        [0 | 240..=255, ..]
        | [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [198, 18 | 19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _] => Class::Reserved,
        _ => Class::Global,
    }
}

fn classify_v6(address: Ipv6Addr) -> Class {
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        classify_v4(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Class::Loopback,
        [0, 0, 0, 0, 0, 0xFFFF, high, low] => embedded(high, low),
        // NAT64, how networks without IPv4 reach IPv4: of use for public addresses only.
        [0x64, 0xFF9B, 0, 0, 0, 0, high, low] => match embedded(high, low) {
            class @ (Class::Global | Class::Metadata) => class,
            _ => Class::Reserved,
        },
        // AWS, Google, Oracle.
        [0xFD00, 0xEC2, ..]
        | [0xFD20, 0xCE, 0, 0, 0, 0, 0, 0x254]
        | [0xFD00, 0xC1, 0, 0, 0, 0, 0xA9FE, 0xA9FE] => Class::Metadata,
        [0xFC00..=0xFDFF, ..] => Class::UniqueLocal,
        [0xFE80..=0xFEBF, ..] => Class::LinkLocal,
        [0xFF00..=0xFFFF, ..] => Class::Multicast,
        // Protocol assignments with Teredo, documentation, 6to4, documentation.
        [0x2001, 0..=0x1FF | 0xDB8, ..] | [0x2002, ..] | [0x3FFF, 0..=0xFFF, ..] => Class::Reserved,
        [0x2000..=0x3FFF, ..] => Class::Global,
        _ => Class::Reserved,
    }
}

/// What a provider may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub kind: ProviderKind,
    /// The connection is encrypted and the host proves its name.
    pub encrypted: bool,
}

impl Policy {
    /// # Errors
    /// If no request of this provider may go to `address`.
    pub fn check(self, address: IpAddr) -> Result<(), Denied> {
        let class = classify(address);
        let allowed = match self.kind {
            ProviderKind::External => class == Class::Global,
            ProviderKind::Local => match class {
                Class::Loopback | Class::Private | Class::UniqueLocal | Class::Shared => true,
                // A machine of one's own on the internet: not in clear text.
                Class::Global => self.encrypted,
                _ => false,
            },
        };
        if allowed { Ok(()) } else { Err(Denied { address, class, policy: self }) }
    }
}

/// An address that a provider may not reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    pub address: IpAddr,
    pub class: Class,
    pub policy: Policy,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}", self.address, self.class)?;
        match (self.policy.kind, self.class) {
            (ProviderKind::Local, Class::Global) => {
                f.write_str("; a local provider reaches it by https only")
            }
            (ProviderKind::External, Class::Loopback | Class::Private | Class::UniqueLocal) => {
                f.write_str("; only a provider with 'kind: local' may use it")
            }
            _ => f.write_str("; no request goes there"),
        }
    }
}

impl std::error::Error for Denied {}

/// Why a name gave no address to connect to.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    #[error("'{0}' is not a host of this provider")]
    UnknownHost(String),
    #[error("'{host}' may not be reached: {denied}")]
    Denied {
        host: String,
        #[source]
        denied: Denied,
    },
    #[error("'{0}' has no address")]
    NoAddress(String),
    #[error("looking up '{0}' took too long")]
    TooSlow(String),
    #[error("'{host}' can't be looked up: {source}")]
    Failed { host: String, source: io::Error },
}

/// Looks names up, for all providers of a gateway: [`SystemDns`], unless whoever embeds it has another.
/// Whatever it finds, only addresses that a provider may be on are dialled.
pub trait Dns: fmt::Debug + Send + Sync + 'static {
    fn lookup<'a>(&'a self, host: &'a str) -> Lookup<'a>;
}

pub type Lookup<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'a>>;

/// The resolver of the operating system. One for the process: it bounds the threads that wait.
#[derive(Debug)]
pub struct SystemDns {
    permits: Arc<Semaphore>,
}

impl Default for SystemDns {
    fn default() -> Self {
        Self { permits: Arc::new(Semaphore::new(MAX_LOOKUPS)) }
    }
}

impl Dns for SystemDns {
    fn lookup<'a>(&'a self, host: &'a str) -> Lookup<'a> {
        Box::pin(async move {
            let permit = self.permits.clone().acquire_owned().await.map_err(io::Error::other)?;
            let host = host.to_owned();
            // Its own task, so that the permit is held as long as the thread is, even if nobody
            // waits for the answer any more.
            let lookup = tokio::spawn(async move {
                let addresses = tokio::net::lookup_host((host, 0)).await;
                drop(permit);
                addresses.map(|addresses| addresses.map(|address| address.ip()).collect())
            });
            lookup.await.map_err(io::Error::other)?
        })
    }
}

/// What stands between the HTTP client and DNS: the hosts a provider may reach, and how.
pub(super) struct Guard {
    hosts: HashMap<String, Policy>,
    dns: Arc<dyn Dns>,
    deadline: Duration,
}

impl Guard {
    pub(super) fn new(
        hosts: HashMap<String, Policy>,
        dns: Arc<dyn Dns>,
        deadline: Duration,
    ) -> Self {
        Self { hosts, dns, deadline }
    }

    async fn addresses(
        dns: Arc<dyn Dns>,
        host: String,
        policy: Option<Policy>,
        deadline: Duration,
    ) -> Result<Vec<IpAddr>, AddressError> {
        // Before any look-up: even a question to DNS can carry data out.
        let Some(policy) = policy else { return Err(AddressError::UnknownHost(host)) };
        let addresses = match tokio::time::timeout(deadline, dns.lookup(&host)).await {
            Ok(Ok(addresses)) => addresses,
            Ok(Err(source)) => return Err(AddressError::Failed { host, source }),
            Err(_) => return Err(AddressError::TooSlow(host)),
        };
        let mut allowed = Vec::new();
        let mut denied = None;
        for address in addresses {
            match policy.check(address) {
                Ok(()) => allowed.push(address),
                Err(reason) => denied = Some(reason),
            }
        }
        allowed.truncate(MAX_ADDRESSES);
        match denied {
            _ if !allowed.is_empty() => Ok(allowed),
            Some(denied) => Err(AddressError::Denied { host, denied }),
            None => Err(AddressError::NoAddress(host)),
        }
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        let policy = self.hosts.get(&host).copied();
        let addresses = Self::addresses(self.dns.clone(), host, policy, self.deadline);
        Box::pin(async move {
            let addresses = addresses.await?;
            // Port 0: the client puts in the URL's.
            let with_port = addresses.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(with_port) as Addrs)
        })
    }
}

/// The address a URL spells instead of a name: the HTTP client connects to it without asking a
/// resolver, so it must be checked where the URL is taken in.
pub(super) fn literal(host: &Host<&str>) -> Option<IpAddr> {
    match host {
        Host::Ipv4(address) => Some((*address).into()),
        Host::Ipv6(address) => Some((*address).into()),
        Host::Domain(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXTERNAL: Policy = Policy { kind: ProviderKind::External, encrypted: true };
    const LOCAL: Policy = Policy { kind: ProviderKind::Local, encrypted: false };

    #[derive(Debug)]
    struct Scripted(Vec<IpAddr>);

    impl Dns for Scripted {
        fn lookup<'a>(&'a self, _: &'a str) -> Lookup<'a> {
            Box::pin(async { Ok(self.0.clone()) })
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    async fn resolve(
        host: &str,
        policy: Policy,
        found: &[&str],
    ) -> Result<Vec<IpAddr>, AddressError> {
        let dns = Arc::new(Scripted(found.iter().map(|text| ip(text)).collect()));
        Guard::addresses(dns, host.into(), Some(policy), Duration::from_secs(1)).await
    }

    #[test]
    fn external_providers_are_on_public_addresses_only() {
        for good in
            ["1.1.1.1", "104.18.7.192", "2606:4700::6810:7c0", "64:ff9b::101:101", "::ffff:8.8.8.8"]
        {
            assert_eq!(EXTERNAL.check(ip(good)), Ok(()), "{good}");
        }
        for bad in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.0.1",
            "169.254.169.254",
            "169.254.170.2",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::a9fe:a9fe",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:0:169.254.169.254",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b::a00:1",
            "64:ff9b:1::a00:1",
            "100::1",
            "2001::1",
            "2001:2::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:808:808::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fd12:3456::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "fd20:ce::254",
        ] {
            assert!(EXTERNAL.check(ip(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn local_providers_are_on_this_machine_or_in_private_networks() {
        for good in [
            "127.0.0.1",
            "::1",
            "::ffff:127.0.0.1",
            "10.1.2.3",
            "172.20.0.2",
            "192.168.0.5",
            "100.101.102.103",
            "fd12::1",
        ] {
            assert_eq!(LOCAL.check(ip(good)), Ok(()), "{good}");
        }
        for bad in [
            "0.0.0.0",
            "::",
            "169.254.169.254",
            "169.254.1.1",
            "100.100.100.200",
            "fd00:ec2::254",
            "fe80::1",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b::a00:1",
            "224.0.0.1",
            "255.255.255.255",
            "192.0.0.192",
            "fd20:ce::254",
        ] {
            assert!(LOCAL.check(ip(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_local_provider_on_the_internet_must_be_encrypted() {
        assert!(LOCAL.check(ip("1.1.1.1")).is_err());
        assert_eq!(Policy { encrypted: true, ..LOCAL }.check(ip("1.1.1.1")), Ok(()));
    }

    #[tokio::test]
    async fn denied_addresses_of_a_name_are_left_out() {
        let found = resolve("a.test", EXTERNAL, &["127.0.0.1", "1.1.1.1", "169.254.169.254"]).await;
        assert_eq!(found.unwrap(), [ip("1.1.1.1")]);
    }

    #[tokio::test]
    async fn a_name_with_denied_addresses_only_says_why() {
        let error = resolve("a.test", EXTERNAL, &["169.254.169.254"]).await.unwrap_err();
        assert!(matches!(error, AddressError::Denied { .. }));
        assert!(error.to_string().contains("metadata"), "{error}");
        assert!(matches!(resolve("a.test", EXTERNAL, &[]).await, Err(AddressError::NoAddress(_))));
    }

    #[tokio::test]
    async fn a_dead_resolver_costs_its_deadline() {
        #[derive(Debug)]
        struct Dead;
        impl Dns for Dead {
            fn lookup<'a>(&'a self, _: &'a str) -> Lookup<'a> {
                Box::pin(std::future::pending())
            }
        }
        let error = Guard::addresses(
            Arc::new(Dead),
            "a.test".into(),
            Some(EXTERNAL),
            Duration::from_millis(20),
        );
        assert!(matches!(error.await, Err(AddressError::TooSlow(_))));
    }

    #[tokio::test]
    async fn the_system_resolver_knows_localhost() {
        let found = SystemDns::default().lookup("localhost").await.unwrap();
        assert!(found.iter().all(|address| address.is_loopback()), "{found:?}");
    }
}
