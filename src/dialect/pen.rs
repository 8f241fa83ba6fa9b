//! Writes an answer of several small pieces: room for all of it is made once, and the length of the
//! output is set once. (With a vector's own methods each piece does both, which was a third of the
//! instructions of a reply.)

/// A writer of up to so many bytes at the end of a vector.
pub(crate) struct Pen<'o> {
    out: &'o mut Vec<u8>,
    /// What its length will be once there is nothing left.
    bytes_max: usize,
    // INVARIANT: from `next` on, `left` bytes are within the vector's capacity; those between its
    // length and `next`, which is `bytes_max - left` behind its beginning, are initialized.
    next: *mut u8,
    left: usize,
}

impl<'o> Pen<'o> {
    /// Makes room.
    #[inline]
    pub(crate) fn new(out: &'o mut Vec<u8>, bytes_max: usize) -> Self {
        out.reserve(bytes_max);
        let next = out.spare_capacity_mut().as_mut_ptr().cast::<u8>();
        Self {
            bytes_max: out.len() + bytes_max,
            out,
            next,
            left: bytes_max,
        }
    }

    /// Writes bytes.
    ///
    /// # Panics
    ///
    /// If there is no room left for them.
    #[inline(always)]
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.left, "more than there is room for");
        // SAFETY: there is room for the bytes at `next`, as was checked, and they lie elsewhere, since
        // the vector is borrowed exclusively.
        unsafe { copy(bytes, self.next) };
        // SAFETY: up to `left` bytes from `next` on belong to the vector.
        self.next = unsafe { self.next.add(bytes.len()) };
        self.left -= bytes.len();
    }

    /// Writes a number in decimal digits.
    #[inline(always)]
    pub(crate) fn put_number(&mut self, number: u64) {
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
    pub(crate) fn finish(self) {
        // SAFETY: so many bytes are initialized, and within the capacity.
        unsafe { self.out.set_len(self.bytes_max - self.left) };
    }
}

/// Copies bytes. Many pieces are of 16 to 64 bytes: copying their two ends, which may overlap, is
/// cheaper than a call.
///
/// # Safety
///
/// There is room for them at `to`, and they lie elsewhere.
#[inline(always)]
unsafe fn copy(from: &[u8], to: *mut u8) {
    match from.len() {
        // SAFETY: there are so many bytes, and room for them.
        33..=64 => unsafe { copy_ends::<32>(from, to) },
        // SAFETY: likewise.
        16..=32 => unsafe { copy_ends::<16>(from, to) },
        // SAFETY: the caller's promise is the same.
        length => unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to, length) },
    }
}

/// Copies the first `N` bytes and the last.
///
/// # Safety
///
/// As for [`copy`]; and there are `N` bytes at least.
#[inline(always)]
unsafe fn copy_ends<const N: usize>(from: &[u8], to: *mut u8) {
    let last = from.len() - N;
    // SAFETY: there are so many bytes, and room for them.
    unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to, N) };
    // SAFETY: within what there is room for.
    let to = unsafe { to.add(last) };
    // SAFETY: there are `N` bytes from there on, and room for them.
    unsafe { std::ptr::copy_nonoverlapping(from[last..].as_ptr(), to, N) };
}

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
    fn pieces_of_every_length_are_put_whole() {
        let piece: Vec<u8> = (0..200).collect();
        for length in 0..piece.len() {
            let mut out = Vec::new();
            let mut pen = Pen::new(&mut out, length + 1);
            pen.put(&piece[..length]);
            pen.put(b"|");
            pen.finish();
            assert_eq!(out, [&piece[..length], b"|"].concat());
        }
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
