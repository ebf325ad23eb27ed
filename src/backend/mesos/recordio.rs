//! RecordIO, in which the master streams its events: the length in decimal digits, a line feed, then as many bytes
//! (Mesos docs, `recordio.md`). Records have nothing to do with the borders of HTTP chunks.

use bytes::{Buf, Bytes, BytesMut};
use tokio_util::codec::Decoder;

/// No event of a cluster of any size comes near it; a longer one is a broken stream.
const MAX_RECORD: usize = 64 << 20;
/// Digits in a length that may still be below [`MAX_RECORD`].
const MAX_DIGITS: usize = 8;

/// Takes a stream of bytes apart into records.
#[derive(Debug, Default)]
pub struct RecordIo {
    /// Length of the record whose header has been read.
    length: Option<usize>,
}

/// The stream is not RecordIO; nothing behind this point can be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("record length is not a number: {0:?}")]
    Length(String),
    #[error("record of {0} bytes is longer than {MAX_RECORD}")]
    TooLong(usize),
    #[error("stream ended inside a record")]
    Cut,
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl RecordIo {
    fn length(&mut self, src: &mut BytesMut) -> Result<Option<usize>, RecordError> {
        if self.length.is_some() {
            return Ok(self.length);
        }
        let unreadable = |head: &[u8]| RecordError::Length(String::from_utf8_lossy(head).into_owned());
        let window = &src[..src.len().min(MAX_DIGITS + 1)];
        let Some(end) = window.iter().position(|&byte| byte == b'\n') else {
            let broken = window.len() > MAX_DIGITS || !window.iter().all(u8::is_ascii_digit);
            return if broken { Err(unreadable(window)) } else { Ok(None) };
        };
        let digits = &window[..end];
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(unreadable(digits));
        }
        let length = digits.iter().fold(0, |number, digit| number * 10 + usize::from(digit - b'0'));
        if length > MAX_RECORD {
            return Err(RecordError::TooLong(length));
        }
        src.advance(end + 1);
        self.length = Some(length);
        Ok(self.length)
    }
}

impl Decoder for RecordIo {
    type Item = Bytes;
    type Error = RecordError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Bytes>, RecordError> {
        let Some(length) = self.length(src)? else { return Ok(None) };
        if src.len() < length {
            src.reserve(length - src.len());
            return Ok(None);
        }
        self.length = None;
        Ok(Some(src.split_to(length).freeze()))
    }

    fn decode_eof(&mut self, src: &mut BytesMut) -> Result<Option<Bytes>, RecordError> {
        match self.decode(src)? {
            Some(record) => Ok(Some(record)),
            None if src.is_empty() && self.length.is_none() => Ok(None),
            None => Err(RecordError::Cut),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn feed(chunks: impl IntoIterator<Item = Vec<u8>>) -> Result<Vec<Bytes>, RecordError> {
        let (mut decoder, mut buffer, mut records) = (RecordIo::default(), BytesMut::new(), Vec::new());
        for chunk in chunks {
            buffer.extend_from_slice(&chunk);
            while let Some(record) = decoder.decode(&mut buffer)? {
                records.push(record);
            }
        }
        while let Some(record) = decoder.decode_eof(&mut buffer)? {
            records.push(record);
        }
        Ok(records)
    }

    proptest! {
        #[test]
        fn chunk_borders_mean_nothing(
            records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..12),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let wire: Vec<u8> =
                records.iter().flat_map(|r| [format!("{}\n", r.len()).into_bytes(), r.clone()].concat()).collect();
            let mut cuts: Vec<usize> = cuts.iter().map(|c| c.index(wire.len() + 1)).chain([0, wire.len()]).collect();
            cuts.sort_unstable();
            let chunks = cuts.windows(2).map(|w| wire[w[0]..w[1]].to_vec());
            let read = feed(chunks).unwrap();
            prop_assert_eq!(read, records.into_iter().map(Bytes::from).collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = feed([bytes]);
        }
    }

    #[test]
    fn a_broken_length_is_named_at_once() {
        for wire in ["x", "12x\n", "\n", "-1\n", "123456789"] {
            assert!(matches!(feed([wire.into()]), Err(RecordError::Length(_))), "{wire:?}");
        }
        assert!(matches!(feed([b"99999999\n".to_vec()]), Err(RecordError::TooLong(99_999_999))));
    }

    #[test]
    fn a_cut_stream_is_said() {
        for wire in ["5", "5\nabc"] {
            assert!(matches!(feed([wire.into()]), Err(RecordError::Cut)), "{wire:?}");
        }
    }
}
