//! Numbers at places in bytes: absent where the bytes end, never a panic.

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    let two = bytes.get(at..at.checked_add(2)?)?;
    Some(usize::from(u16::from_le_bytes([two[0], two[1]])))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    usize::try_from(u32::from_le_bytes([four[0], four[1], four[2], four[3]])).ok()
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let eight: [u8; 8] = bytes.get(at..at.checked_add(8)?)?.try_into().ok()?;
    Some(u64::from_le_bytes(eight))
}

/// `length` bytes from `at` on.
pub(super) fn slice(bytes: &[u8], at: usize, length: usize) -> Option<&[u8]> {
    bytes.get(at..at.checked_add(length)?)
}

/// Whether the bytes are in there.
pub(super) fn has(bytes: &[u8], sought: &[u8]) -> bool {
    memchr::memmem::find(bytes, sought).is_some()
}

/// UTF-16 in little endian as text, as far as it goes.
pub(super) fn utf16(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2).map(|two| u16::from_le_bytes([two[0], two[1]]));
    char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// Reads numbers and pieces one after the other.
pub(super) struct Cursor<'b> {
    pub rest: &'b [u8],
}

impl<'b> Cursor<'b> {
    pub fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*byte)
    }

    pub fn take(&mut self, length: usize) -> Option<&'b [u8]> {
        let (piece, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(piece)
    }

    /// Seven bits a byte, the lowest first (RAR 5).
    pub fn vint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in 0..10 {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f).checked_shl(shift * 7)?;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    pub fn vint_usize(&mut self) -> Option<usize> {
        usize::try_from(self.vint()?).ok()
    }
}
