//! The one place that knows how messages become bytes (serde + bincode, bounded).

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::IpcError;
use crate::frame::MAX_MESSAGE;

/// Largest value that travels as a file and not as a message: an OCI configuration of 4 MiB and what is made of it.
pub const MAX_DOCUMENT: usize = 16 << 20;

const CONFIG: Configuration<LittleEndian, Varint, Limit<MAX_MESSAGE>> = bincode::config::standard().with_limit::<MAX_MESSAGE>();
const DOCUMENT: Configuration<LittleEndian, Varint, Limit<MAX_DOCUMENT>> = bincode::config::standard().with_limit::<MAX_DOCUMENT>();

/// Appends the encoded value to `out`.
pub fn encode_into<T: Serialize>(value: &T, out: &mut Vec<u8>) -> Result<(), IpcError> {
    bincode::serde::encode_into_std_write(value, out, CONFIG).map_err(|e| IpcError::Encode(e.to_string()))?;
    Ok(())
}

/// Encodes a message.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, IpcError> {
    let mut out = Vec::new();
    encode_into(value, &mut out)?;
    Ok(out)
}

/// Decodes a value that must fill `bytes` exactly.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, IpcError> {
    if bytes.len() > MAX_MESSAGE {
        return Err(IpcError::TooLarge(bytes.len()));
    }
    let (value, used) = bincode::serde::decode_from_slice(bytes, CONFIG).map_err(|e| IpcError::Decode(e.to_string()))?;
    if used != bytes.len() {
        return Err(IpcError::Decode(format!("{} bytes follow the message", bytes.len() - used)));
    }
    Ok(value)
}

/// Encodes a value that travels as a file.
pub fn encode_document<T: Serialize>(value: &T) -> Result<Vec<u8>, IpcError> {
    bincode::serde::encode_to_vec(value, DOCUMENT).map_err(|e| IpcError::Encode(e.to_string()))
}

/// Decodes a value that travelled as a file and must fill it exactly.
pub fn decode_document<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, IpcError> {
    if bytes.len() > MAX_DOCUMENT {
        return Err(IpcError::TooLarge(bytes.len()));
    }
    let (value, used) = bincode::serde::decode_from_slice(bytes, DOCUMENT).map_err(|e| IpcError::Decode(e.to_string()))?;
    if used != bytes.len() {
        return Err(IpcError::Decode(format!("{} bytes follow the document", bytes.len() - used)));
    }
    Ok(value)
}
