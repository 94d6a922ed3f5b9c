//! Classes of bytes as the kernel's ctype table has them: Latin-1.

fn is_upper(c: u8) -> bool {
    c.is_ascii_uppercase() || (0xc0..=0xde).contains(&c) && c != 0xd7
}

fn is_lower(c: u8) -> bool {
    c.is_ascii_lowercase() || (c >= 0xdf && c != 0xf7)
}

pub fn is_alphanumeric(c: u8) -> bool {
    is_upper(c) || is_lower(c) || c.is_ascii_digit()
}

pub fn to_lower(c: u8) -> u8 {
    if is_upper(c) { c + 32 } else { c }
}

pub fn to_upper(c: u8) -> u8 {
    if is_lower(c) { c - 32 } else { c }
}
