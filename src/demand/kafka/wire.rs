//! Kafka's classic encoding: big-endian numbers, and strings, bytes and arrays with their length before them.
//!
//! Our own rather than a crate's, for it is little, and takes what a length says only as far as there are bytes: a broken or hostile
//! server must not be able to make us reserve memory for what it never sends.

use bytes::{Buf, BufMut};

/// What came is not what Kafka answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an answer of Kafka's")]
pub struct Garbled;

/// The bytes of a request.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    pub fn i8(&mut self, number: i8) {
        self.0.put_i8(number);
    }

    pub fn i16(&mut self, number: i16) {
        self.0.put_i16(number);
    }

    pub fn i32(&mut self, number: i32) {
        self.0.put_i32(number);
    }

    pub fn i64(&mut self, number: i64) {
        self.0.put_i64(number);
    }

    /// Specs hold strings to lengths that fit.
    pub fn string(&mut self, text: &str) {
        self.i16(i16::try_from(text.len()).unwrap_or(i16::MAX));
        self.0.extend(text.bytes().take(i16::MAX.unsigned_abs().into()));
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.i32(length(bytes.len()));
        self.0.put_slice(bytes);
    }

    pub fn array<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.i32(length(items.len()));
        items.iter().for_each(|item| write(self, item));
    }

    /// No array at all, which is not an empty one.
    pub fn null_array(&mut self) {
        self.i32(-1);
    }

    /// All of it, with its length before it.
    #[must_use]
    pub fn framed(self) -> Vec<u8> {
        let mut frame = Vec::with_capacity(4 + self.0.len());
        frame.put_i32(length(self.0.len()));
        frame.extend(self.0);
        frame
    }
}

fn length(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}

/// The bytes of an answer that are not read yet.
#[derive(Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn bool(&mut self) -> Result<bool, Garbled> {
        self.0.try_get_u8().map(|byte| byte != 0).map_err(|_| Garbled)
    }

    pub fn i16(&mut self) -> Result<i16, Garbled> {
        self.0.try_get_i16().map_err(|_| Garbled)
    }

    pub fn i32(&mut self) -> Result<i32, Garbled> {
        self.0.try_get_i32().map_err(|_| Garbled)
    }

    pub fn i64(&mut self) -> Result<i64, Garbled> {
        self.0.try_get_i64().map_err(|_| Garbled)
    }

    pub fn string(&mut self) -> Result<String, Garbled> {
        self.nullable_string()?.ok_or(Garbled)
    }

    pub fn nullable_string(&mut self) -> Result<Option<String>, Garbled> {
        let length = self.i16()?;
        if length == -1 {
            return Ok(None);
        }
        let text = self.take(length.into())?;
        String::from_utf8(text.to_vec()).map(Some).map_err(|_| Garbled)
    }

    pub fn bytes(&mut self) -> Result<Vec<u8>, Garbled> {
        let length = self.i32()?;
        self.take(length).map(<[u8]>::to_vec)
    }

    /// The items of an array; none if there is no array.
    pub fn array<T>(&mut self, mut read: impl FnMut(&mut Self) -> Result<T, Garbled>) -> Result<Vec<T>, Garbled> {
        let length = self.i32()?;
        // A collected Result reserves nothing beforehand.
        (0..length).map(|_| read(self)).collect()
    }

    fn take(&mut self, length: i32) -> Result<&'a [u8], Garbled> {
        let length = usize::try_from(length).map_err(|_| Garbled)?;
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Garbled)?;
        self.0 = rest;
        Ok(taken)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut writer = Writer::default();
        writer.i16(7);
        writer.i64(-1);
        writer.string("orders");
        writer.bytes(&[1, 2]);
        writer.array(&[3, 4], |writer, number| writer.i32(*number));
        writer.null_array();
        let frame = writer.framed();
        let mut reader = Reader::new(&frame);
        assert_eq!(usize::try_from(reader.i32().unwrap()).unwrap(), frame.len() - 4);
        assert_eq!((reader.i16(), reader.i64()), (Ok(7), Ok(-1)));
        assert_eq!((reader.string().unwrap().as_str(), reader.bytes()), ("orders", Ok(vec![1, 2])));
        assert_eq!((reader.array(Reader::i32), reader.array(Reader::i32)), (Ok(vec![3, 4]), Ok(vec![])));
        assert_eq!(reader.bool(), Err(Garbled));
    }

    #[test]
    fn a_length_is_not_believed() {
        let huge = i32::MAX.to_be_bytes();
        assert_eq!(Reader::new(&huge).bytes(), Err(Garbled));
        assert_eq!(Reader::new(&huge).array(Reader::i64), Err(Garbled));
        assert_eq!(Reader::new(&[0x80, 0, 0, 0]).bytes(), Err(Garbled));
        assert_eq!(Reader::new(&[0, 2, 0xff, 0xff]).string(), Err(Garbled));
    }
}
