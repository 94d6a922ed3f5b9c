//! `struct sockaddr` of the families, as bytes.

use sentry_abi::{Errno, Result};

/// `sizeof(struct sockaddr_storage)`: longer addresses are refused before they are copied in.
pub const MAX_ADDRESS: usize = 128;

const AF_UNSPEC: u16 = 0;
pub const AF_UNIX: u16 = 1;
/// `sizeof(struct sockaddr_un)`.
const SOCKADDR_UN: usize = 110;

/// `sa_family`; `EINVAL` when there is none.
pub fn family_of(address: &[u8]) -> Result<u16> {
    match address {
        [low, high, ..] => Ok(u16::from_ne_bytes([*low, *high])),
        _ => Err(Errno::EINVAL),
    }
}

/// The name of an AF_UNIX socket.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum UnixName {
    /// As given to bind(2), without NUL.
    Path(Vec<u8>),
    /// Without the leading NUL.
    Abstract(Vec<u8>),
}

/// What an AF_UNIX address asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum UnixAddress {
    /// AF_UNSPEC: connect(2) dissolves a datagram socket's association.
    Unspecified,
    /// No name: bind(2) chooses one.
    Unnamed,
    Named(UnixName),
}

impl UnixAddress {
    /// unix_validate_addr(), unix_mkname_bsd().
    pub fn parse(address: &[u8]) -> Result<UnixAddress> {
        let family = family_of(address)?;
        if family == AF_UNSPEC {
            return Ok(UnixAddress::Unspecified);
        }
        if family != AF_UNIX || address.len() > SOCKADDR_UN {
            return Err(Errno::EINVAL);
        }
        Ok(match &address[2..] {
            [] => UnixAddress::Unnamed,
            [0, name @ ..] => UnixAddress::Named(UnixName::Abstract(name.to_vec())),
            path => UnixAddress::Named(UnixName::Path(path.split(|b| *b == 0).next().unwrap_or_default().to_vec())),
        })
    }
}

impl UnixName {
    /// The whole address, of a name or of none.
    pub fn encode(name: Option<&UnixName>) -> Vec<u8> {
        let mut out = AF_UNIX.to_ne_bytes().to_vec();
        match name {
            None => {}
            Some(UnixName::Path(path)) => {
                out.extend_from_slice(path);
                out.push(0);
            }
            Some(UnixName::Abstract(name)) => {
                out.push(0);
                out.extend_from_slice(name);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unix_addresses() {
        let path = |p: &[u8]| UnixAddress::Named(UnixName::Path(p.to_vec()));
        assert_eq!(UnixAddress::parse(b"\x01"), Err(Errno::EINVAL));
        assert_eq!(UnixAddress::parse(b"\x01\0"), Ok(UnixAddress::Unnamed));
        assert_eq!(UnixAddress::parse(b"\0\0xyz"), Ok(UnixAddress::Unspecified));
        assert_eq!(UnixAddress::parse(b"\x02\0/a"), Err(Errno::EINVAL));
        assert_eq!(UnixAddress::parse(b"\x01\0/a\0junk"), Ok(path(b"/a")));
        assert_eq!(UnixAddress::parse(b"\x01\0/a"), Ok(path(b"/a")));
        assert_eq!(UnixAddress::parse(b"\x01\0\0a\0"), Ok(UnixAddress::Named(UnixName::Abstract(b"a\0".to_vec()))));
        assert_eq!(UnixAddress::parse(&[1; 111]), Err(Errno::EINVAL));
        assert_eq!(UnixName::encode(Some(&UnixName::Path(b"/a".to_vec()))), b"\x01\0/a\0");
        assert_eq!(UnixName::encode(None), b"\x01\0");
    }
}
