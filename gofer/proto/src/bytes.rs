//! Bounded byte strings. The bound and the form are checked while decoding, before a handler sees them.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;

/// Why bytes are not a valid string of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadBytes {
    #[error("empty")]
    Empty,
    #[error("longer than {0} bytes")]
    TooLong(usize),
    #[error("contains a byte that is not allowed")]
    BadByte,
    #[error("is . or ..")]
    Dots,
}

struct BytesVisitor(usize);

impl de::Visitor<'_> for BytesVisitor {
    type Value = Box<[u8]>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {} bytes", self.0)
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Box<[u8]>, E> {
        if bytes.len() > self.0 {
            return Err(E::custom(BadBytes::TooLong(self.0)));
        }
        Ok(bytes.into())
    }

    fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Box<[u8]>, E> {
        if bytes.len() > self.0 {
            return Err(E::custom(BadBytes::TooLong(self.0)));
        }
        Ok(bytes.into())
    }
}

macro_rules! bounded {
    ($(#[$doc:meta])* $name:ident, $max:expr, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<[u8]>);

        impl $name {
            /// Longest, in bytes.
            pub const MAX: usize = $max;

            pub fn new(bytes: &[u8]) -> Result<$name, BadBytes> {
                if bytes.len() > Self::MAX {
                    return Err(BadBytes::TooLong(Self::MAX));
                }
                let check: fn(&[u8]) -> Result<(), BadBytes> = $check;
                check(bytes)?;
                Ok($name(bytes.into()))
            }

            pub fn as_bytes(&self) -> &[u8] {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "\"{}\"", self.0.escape_ascii())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                let bytes = deserializer.deserialize_byte_buf(BytesVisitor(Self::MAX))?;
                $name::new(&bytes).map_err(de::Error::custom)
            }
        }
    };
}

fn component(bytes: &[u8]) -> Result<(), BadBytes> {
    match bytes {
        [] => Err(BadBytes::Empty),
        b"." | b".." => Err(BadBytes::Dots),
        _ if bytes.iter().any(|&b| b == 0 || b == b'/') => Err(BadBytes::BadByte),
        _ => Ok(()),
    }
}

fn c_string(bytes: &[u8]) -> Result<(), BadBytes> {
    match bytes {
        [] => Err(BadBytes::Empty),
        _ if bytes.contains(&0) => Err(BadBytes::BadByte),
        _ => Ok(()),
    }
}

bounded! {
    /// One path component: 1–255 bytes, no `/`, no NUL, not `.` or `..`.
    Name, 255, component
}

bounded! {
    /// What a symbolic link holds: 1–4,095 bytes, no NUL.
    Target, 4095, c_string
}

bounded! {
    /// Name of an extended attribute with its prefix: 1–255 bytes, no NUL.
    XattrName, 255, c_string
}

bounded! {
    /// Value of an extended attribute.
    XattrValue, crate::MAX_XATTR, |_| Ok(())
}
