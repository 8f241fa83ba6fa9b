//! Writes an answer of many small pieces: room for all of it is made once, and the length of the
//! output is set once. (With a vector's own methods each piece of a value's line does both, which was
//! a third of the instructions of a reply.)

/// A writer of up to so many bytes at the end of a vector.
pub(super) struct Pen<'o> {
    out: &'o mut Vec<u8>,
    /// Bytes there is room for in all, behind those that the vector has.
    bytes_max: usize,
    // INVARIANT: from `next` on, `left` bytes are within the vector's capacity; those between its
    // length and `next`, of which there are `bytes_max - left`, are initialized.
    next: *mut u8,
    left: usize,
}

/// LIMIT: digits of the largest number.
const DIGITS_MAX: usize = 20;

impl<'o> Pen<'o> {
    /// Makes room.
    #[inline]
    pub(super) fn new(out: &'o mut Vec<u8>, bytes_max: usize) -> Self {
        out.reserve(bytes_max);
        let next = out.spare_capacity_mut().as_mut_ptr().cast::<u8>();
        Self {
            out,
            bytes_max,
            next,
            left: bytes_max,
        }
    }

    /// Writes bytes.
    ///
    /// # Panics
    ///
    /// If there is no room left for them.
    #[inline]
    pub(super) fn put(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.left, "more than there is room for");
        // SAFETY: there is room for the bytes at `next`, as was checked, and they lie elsewhere, since
        // the vector is borrowed exclusively.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.next, bytes.len()) };
        // SAFETY: up to `left` bytes from `next` on belong to the vector.
        self.next = unsafe { self.next.add(bytes.len()) };
        self.left -= bytes.len();
    }

    /// Writes a number in decimal digits.
    #[inline]
    pub(super) fn put_number(&mut self, number: u64) {
        match number {
            0..10 => self.put(&[b'0' + number as u8]),
            10..100 => self.put(&[b'0' + (number / 10) as u8, b'0' + (number % 10) as u8]),
            _ => self.put_long_number(number),
        }
    }

    fn put_long_number(&mut self, number: u64) {
        self.put(itoa::Buffer::new().format(number).as_bytes());
    }

    /// Ends the writing.
    #[inline]
    pub(super) fn finish(self) {
        let bytes = self.out.len() + self.bytes_max - self.left;
        // SAFETY: so many bytes are initialized, and within the capacity.
        unsafe { self.out.set_len(bytes) };
    }
}

/// What the words of a value's line take beside its key: `VALUE`, four spaces, three numbers, two line
/// ends, and the end of the list.
pub(super) const AROUND_VALUE_BYTES: usize = 5 + 4 + 3 * DIGITS_MAX + 4 + 5;

#[cfg(test)]
mod tests {
    use super::Pen;

    #[test]
    fn what_is_put_is_behind_what_was_there() {
        let mut out = b"before ".to_vec();
        let mut pen = Pen::new(&mut out, 64);
        pen.put(b"and ");
        for number in [0, 9, 10, 99, 100, u64::MAX] {
            pen.put_number(number);
            pen.put(b" ");
        }
        pen.finish();
        assert_eq!(out, b"before and 0 9 10 99 100 18446744073709551615 ");
    }

    #[test]
    #[should_panic(expected = "more than there is room for")]
    fn more_than_there_is_room_for_is_not_put() {
        let mut out = Vec::new();
        let mut pen = Pen::new(&mut out, 3);
        pen.put(b"ab");
        pen.put(b"cd");
    }
}
