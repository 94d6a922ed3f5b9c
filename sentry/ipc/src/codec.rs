//! The one place that knows how messages become bytes (serde + bincode, bounded).

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::IpcError;
use crate::frame::MAX_MESSAGE;

const CONFIG: Configuration<LittleEndian, Varint, Limit<MAX_MESSAGE>> = bincode::config::standard().with_limit::<MAX_MESSAGE>();

/// Appends the encoded value to `out`.
pub fn encode_into<T: Serialize>(value: &T, out: &mut Vec<u8>) -> Result<(), IpcError> {
    bincode::serde::encode_into_std_write(value, out, CONFIG).map_err(|e| IpcError::Encode(e.to_string()))?;
    Ok(())
}

/// Encodes a value that is not a message on a channel, such as a boot file.
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
