//! Who is at the other end of a connection, in three words.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const NOBODY: u64 = 0;
const UNIX: u64 = 1;
const V4: u64 = 2;
const V6: u64 = 3;

/// Where the kind stands in the last word, above the port.
const KIND_SHIFT: u32 = 16;

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Peer {
    /// Nobody, or it is not known.
    #[default]
    Unknown,
    /// A program of the same machine, which has no address.
    Unix,
    /// An address.
    Tcp(SocketAddr),
}

/// The same in as little room as a box has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PackedPeer(pub(super) [u64; 3]);

impl Peer {
    /// As it stands in a box.
    pub fn pack(self) -> PackedPeer {
        PackedPeer(match self {
            Self::Unknown => [0, 0, NOBODY],
            Self::Unix => [0, 0, UNIX << KIND_SHIFT],
            Self::Tcp(address) => {
                let (bits, kind) = match address.ip() {
                    IpAddr::V4(ip) => (u128::from(ip.to_bits()), V4),
                    IpAddr::V6(ip) => (ip.to_bits(), V6),
                };
                let last = kind << KIND_SHIFT | u64::from(address.port());
                [bits as u64, (bits >> 64) as u64, last]
            }
        })
    }

    pub(super) fn of(PackedPeer([low, high, last]): PackedPeer) -> Self {
        let ip = match last >> KIND_SHIFT {
            UNIX => return Self::Unix,
            V4 => IpAddr::V4(Ipv4Addr::from_bits(low as u32)),
            V6 => IpAddr::V6(Ipv6Addr::from_bits(
                u128::from(high) << 64 | u128::from(low),
            )),
            _ => return Self::Unknown,
        };
        Self::Tcp(SocketAddr::new(ip, last as u16))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("unknown"),
            Self::Unix => f.write_str("unix"),
            Self::Tcp(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Peer;

    #[test]
    fn a_peer_comes_back_as_it_was() {
        let addresses = ["127.0.0.1:80", "255.255.255.255:65535", "[2001:db8::7]:1"];
        let peers = addresses.map(|text| Peer::Tcp(text.parse().unwrap()));
        for peer in peers.into_iter().chain([Peer::Unknown, Peer::Unix]) {
            assert_eq!(Peer::of(peer.pack()), peer);
        }
    }
}
