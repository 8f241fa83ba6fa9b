//! Numbers as counters store them: unsigned 64-bit, in decimal digits.

/// LIMIT: digits of the largest number.
const DIGITS_MAX: usize = 20;

/// A number in decimal digits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Number {
    buffer: [u8; DIGITS_MAX],
    /// The digits are the last ones of the buffer, from here.
    start: usize,
}

impl Number {
    pub(crate) fn new(mut value: u64) -> Self {
        let mut buffer = [0; DIGITS_MAX];
        let mut start = DIGITS_MAX;
        loop {
            start -= 1;
            buffer[start] = b'0' + (value % 10) as u8;
            value /= 10;
            if value == 0 {
                return Self { buffer, start };
            }
        }
    }

    pub(crate) fn digits(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// The number that `digits` spell: 1 to 20 decimal digits and nothing else, within 64 bits.
    pub(crate) fn parse(digits: &[u8]) -> Option<u64> {
        if digits.is_empty() || digits.len() > DIGITS_MAX {
            return None;
        }
        digits.iter().try_fold(0_u64, |value, &digit| {
            let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
            value.checked_mul(10)?.checked_add(digit)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Number;

    #[test]
    fn a_number_parses_as_it_was_spelled() {
        for value in [0, 1, 9, 10, 99, 12_345, u64::MAX - 1, u64::MAX] {
            let number = Number::new(value);
            assert_eq!(number.digits(), value.to_string().as_bytes());
            assert_eq!(Number::parse(number.digits()), Some(value));
        }
    }

    #[test]
    fn what_is_no_unsigned_64_bit_number_is_refused() {
        for text in [
            "",
            "-1",
            "+1",
            " 1",
            "1 ",
            "1.5",
            "x",
            "18446744073709551616",
        ] {
            assert_eq!(Number::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(Number::parse(b"007"), Some(7));
    }
}
