//! Just enough of HTTP/1.1 to speak with the agent and to check tasks: heads, whole answers, chunks.

use bytes::{Buf, Bytes, BytesMut};

/// More than a task that is checked would ever send; with fewer, its answer would pass for no HTTP.
const MAX_HEADERS: usize = 128;
/// No head of an agent or of a task that is checked comes near it.
const MAX_HEAD: usize = 64 << 10;

/// What was read is not the HTTP that was expected.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("not HTTP: {0}")]
    Malformed(#[from] httparse::Error),
    #[error("an answer's head is longer than {MAX_HEAD} bytes")]
    Head,
    #[error("an answer of unknown length")]
    Length,
    #[error("a chunk of unreadable length")]
    Chunk,
}

/// The start of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub status: u16,
    pub length: Option<usize>,
    pub is_chunked: bool,
}

/// Takes an answer's head off the input, if it is there.
pub fn head(input: &mut BytesMut) -> Result<Option<Head>, HttpError> {
    let Some((head, size)) = parse(input)? else { return Ok(None) };
    input.advance(size);
    Ok(Some(head))
}

/// Takes one whole answer off the input, if it is there.
pub fn answer(input: &mut BytesMut) -> Result<Option<(u16, Bytes)>, HttpError> {
    let Some((head, size)) = parse(input)? else { return Ok(None) };
    let length = match head.length {
        Some(length) if !head.is_chunked => length,
        None if !head.is_chunked && matches!(head.status, 202 | 204) => 0,
        _ => return Err(HttpError::Length),
    };
    if input.len() < size + length {
        return Ok(None);
    }
    input.advance(size);
    Ok(Some((head.status, input.split_to(length).freeze())))
}

fn parse(input: &[u8]) -> Result<Option<(Head, usize)>, HttpError> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(size) = response.parse(input)? else {
        return if input.len() > MAX_HEAD { Err(HttpError::Head) } else { Ok(None) };
    };
    let header = |name: &str| response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    let length = header("content-length").and_then(|header| std::str::from_utf8(header.value).ok()?.trim().parse().ok());
    let is_chunked = header("transfer-encoding").is_some_and(|header| header.value.eq_ignore_ascii_case(b"chunked"));
    Ok(Some((Head { status: response.code.unwrap_or(0), length, is_chunked }, size)))
}

/// Takes the chunks of a body apart.
#[derive(Debug, Default)]
pub struct Chunks {
    /// What is missing of the chunk, with the line end behind it.
    left: usize,
    pub is_over: bool,
}

impl Chunks {
    /// Moves what is there of the body from `input` to `output`.
    pub fn decode(&mut self, input: &mut BytesMut, output: &mut BytesMut) -> Result<(), HttpError> {
        while !self.is_over && self.begin(input)? {
            let taken = self.left.min(input.len());
            // The last two bytes of what is left are the line end.
            let data = taken.min(self.left.saturating_sub(2));
            output.extend_from_slice(&input[..data]);
            input.advance(taken);
            self.left -= taken;
        }
        Ok(())
    }

    /// Whether there is something of a chunk to read.
    fn begin(&mut self, input: &mut BytesMut) -> Result<bool, HttpError> {
        if self.left > 0 {
            return Ok(!input.is_empty());
        }
        let httparse::Status::Complete((head, size)) = httparse::parse_chunk_size(input).map_err(|_| HttpError::Chunk)? else {
            return Ok(false);
        };
        input.advance(head);
        self.is_over = size == 0;
        self.left = usize::try_from(size).ok().and_then(|size| size.checked_add(2)).ok_or(HttpError::Chunk)?;
        Ok(!self.is_over)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn answers_are_taken_whole() {
        let two = "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\nHTTP/1.1 400 Bad Request\r\nContent-Length: 4\r\n\r\nno";
        let mut input = BytesMut::from(two);
        assert_eq!(answer(&mut input).unwrap(), Some((202, Bytes::new())));
        assert_eq!(answer(&mut input).unwrap(), None);
        input.extend_from_slice(b"pe");
        assert_eq!(answer(&mut input).unwrap(), Some((400, "nope".into())));
        assert!(answer(&mut BytesMut::from("SSH-2.0-OpenSSH\r\n\r\n")).is_err());
    }

    #[test]
    fn many_headers_are_no_fault() {
        let headers: String = (0..100).map(|number| format!("X-{number}: x\r\n")).collect();
        let mut input = BytesMut::from(format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: 0\r\n\r\n").as_str());
        assert_eq!(answer(&mut input).unwrap(), Some((200, Bytes::new())));
    }

    proptest! {
        #[test]
        fn chunks_may_be_cut_anywhere(bodies in prop::collection::vec("[a-z]{1,40}", 0..8), step in 1..30_usize) {
            let wire: String = bodies.iter().map(|body| format!("{:x}\r\n{body}\r\n", body.len())).collect::<String>() + "0\r\n\r\n";
            let (mut chunks, mut input, mut output) = (Chunks::default(), BytesMut::new(), BytesMut::new());
            for part in wire.as_bytes().chunks(step) {
                input.extend_from_slice(part);
                chunks.decode(&mut input, &mut output).unwrap();
            }
            prop_assert!(chunks.is_over);
            let expected = bodies.concat();
            prop_assert_eq!(&output[..], expected.as_bytes());
        }
    }
}
