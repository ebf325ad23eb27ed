//! HTTP/1.1 and `RecordIO` over blocking sockets: just enough to speak with Mesos, with no cost to speak of.
//!
//! The executor, which is started once per task, and the "floor" client of the benches share it; both count microseconds.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// A request without its address.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub method: &'a str,
    pub path: &'a str,
    /// Whole header lines, each with its `\r\n`.
    pub headers: &'a str,
    pub body: &'a [u8],
}

/// An answer; the body is empty if it is a stream.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    fn is_chunked(&self) -> bool {
        self.header("transfer-encoding") == Some("chunked")
    }

    fn length(&self) -> usize {
        self.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0)
    }
}

/// One keep-alive connection. Requests may be written ahead of their answers, which come in the same order.
#[derive(Debug)]
pub struct Connection {
    reader: BufReader<TcpStream>,
    address: SocketAddr,
    outgoing: Vec<u8>,
}

impl Connection {
    /// # Errors
    /// If nobody accepts the connection within `timeout`.
    pub fn open(address: SocketAddr, timeout: Duration) -> io::Result<Self> {
        let socket = TcpStream::connect_timeout(&address, timeout)?;
        socket.set_nodelay(true)?;
        Ok(Self { reader: BufReader::with_capacity(64 << 10, socket), address, outgoing: Vec::with_capacity(4096) })
    }

    /// A second handle to read the answers with, in another thread. Nothing may have been read with the first one.
    ///
    /// # Errors
    /// If no file descriptor is left.
    pub fn reader_of_answers(&self) -> io::Result<Self> {
        Ok(Self { reader: BufReader::new(self.socket()?), address: self.address, outgoing: Vec::new() })
    }

    /// Another handle on the socket, to read from or shut down in another thread.
    ///
    /// # Errors
    /// If no file descriptor is left.
    pub fn socket(&self) -> io::Result<TcpStream> {
        self.reader.get_ref().try_clone()
    }

    /// Limits how long a read waits; `None` is without limit.
    ///
    /// # Errors
    /// If `timeout` is zero.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.reader.get_ref().set_read_timeout(timeout)
    }

    /// Whether some of an answer has been read from the socket already, so that waiting for the socket would miss it.
    #[must_use]
    pub fn has_buffered(&self) -> bool {
        !self.reader.buffer().is_empty()
    }

    /// Adds a request to those that the next [`flush`](Self::flush) writes.
    pub fn push(&mut self, request: Request) {
        let Request { method, path, headers, body } = request;
        // A Vec takes every write.
        let _ = write!(
            self.outgoing,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{headers}Content-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        self.outgoing.extend_from_slice(body);
    }

    /// Writes all pushed requests at once.
    ///
    /// # Errors
    /// If the connection is lost; what was pushed is forgotten then.
    pub fn flush(&mut self) -> io::Result<()> {
        let written = self.reader.get_mut().write_all(&self.outgoing);
        self.outgoing.clear();
        written
    }

    /// Reads the answer to the oldest request that has none yet, without its body if that comes in chunks.
    fn receive_head(&mut self) -> io::Result<Response> {
        let status_line = read_line(&mut self.reader)?;
        let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| malformed(&status_line))?;
        let mut headers = Vec::new();
        loop {
            let line = read_line(&mut self.reader)?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| malformed(&line))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Ok(Response { status, headers, body: Vec::new() })
    }

    /// Reads the answer to the oldest request that has none yet.
    ///
    /// # Errors
    /// If the connection is lost or the answer is not HTTP.
    pub fn receive(&mut self) -> io::Result<Response> {
        let mut response = self.receive_head()?;
        if response.is_chunked() {
            while read_chunk(&mut self.reader, &mut response.body)? {}
        } else {
            response.body.resize(response.length(), 0);
            self.reader.read_exact(&mut response.body)?;
        }
        Ok(response)
    }

    /// What comes until the other side closes: the rest of an answer that has neither a length nor chunks.
    ///
    /// # Errors
    /// If the connection is lost.
    pub fn read_to_end(&mut self, to: &mut Vec<u8>) -> io::Result<()> {
        self.reader.read_to_end(to).map(drop)
    }

    /// One request and its answer.
    ///
    /// # Errors
    /// If the connection is lost or the answer is not HTTP.
    pub fn call(&mut self, request: Request) -> io::Result<Response> {
        self.push(request);
        self.flush()?;
        self.receive()
    }

    /// Sends a request whose answer is an endless stream of records.
    ///
    /// # Errors
    /// If the connection is lost. An answer that is no stream is in the `Err` of the inner result.
    pub fn subscribe(mut self, request: Request) -> io::Result<Result<Records, Response>> {
        self.push(request);
        self.flush()?;
        let mut response = self.receive_head()?;
        if response.status == 200 && response.is_chunked() {
            return Ok(Ok(Records { connection: self, response, buffer: Vec::new(), used: 0 }));
        }
        response.body.resize(response.length(), 0);
        self.reader.read_exact(&mut response.body)?;
        Ok(Err(response))
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.get_ref().as_fd()
    }
}

/// The records of a subscription, as they come.
#[derive(Debug)]
pub struct Records {
    connection: Connection,
    response: Response,
    buffer: Vec<u8>,
    /// How much of the front of `buffer` has been handed out.
    used: usize,
}

impl Records {
    /// The answer that began the stream.
    #[must_use]
    pub fn response(&self) -> &Response {
        &self.response
    }

    /// Limits how long [`next`](Self::next) waits; `None` is without limit.
    ///
    /// # Errors
    /// If `timeout` is zero.
    pub fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.connection.set_read_timeout(timeout)
    }

    /// Another handle on the socket: shutting it down ends the stream.
    ///
    /// # Errors
    /// If no file descriptor is left.
    pub fn socket(&self) -> io::Result<TcpStream> {
        self.connection.socket()
    }

    /// Whether some of the next record has been read from the socket already, so that waiting for the socket would miss it.
    #[must_use]
    pub fn has_buffered(&self) -> bool {
        self.connection.has_buffered() || self.used < self.buffer.len()
    }

    /// The next record; `None` at the end of the stream.
    ///
    /// # Errors
    /// If the connection is lost, the stream is malformed, or the timeout is over: then with a kind of
    /// `WouldBlock` or `TimedOut`, and it can be called again if the wait was between two chunks.
    #[expect(clippy::should_implement_trait, reason = "it lends, and fails")]
    pub fn next(&mut self) -> io::Result<Option<&[u8]>> {
        let (start, end) = loop {
            if let Some(found) = self.complete_record()? {
                break found;
            }
            self.buffer.drain(..self.used);
            self.used = 0;
            // Peek first: a timeout in the middle of a chunk would lose our place.
            if self.connection.reader.fill_buf()?.is_empty() || !read_chunk(&mut self.connection.reader, &mut self.buffer)? {
                return Ok(None);
            }
        };
        self.used = end;
        Ok(Some(&self.buffer[start..end]))
    }

    /// `<length in decimal>\n<that many bytes>`: where the bytes are, if all have come.
    fn complete_record(&self) -> io::Result<Option<(usize, usize)>> {
        let rest = &self.buffer[self.used..];
        let Some(newline) = rest.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
        let digits = String::from_utf8_lossy(&rest[..newline]);
        let length: usize = digits.parse().map_err(|_| malformed(&digits))?;
        let start = self.used + newline + 1;
        Ok((rest.len() > newline + length).then_some((start, start + length)))
    }
}

impl AsFd for Records {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}

/// Whether an error only says that the read timeout is over.
#[must_use]
pub fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn read_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    line.truncate(line.trim_end().len());
    Ok(line)
}

/// Appends one chunk; false if it was the last, empty one.
fn read_chunk(reader: &mut impl BufRead, to: &mut Vec<u8>) -> io::Result<bool> {
    let size = read_line(reader)?;
    let size = usize::from_str_radix(&size, 16).map_err(|_| malformed(&size))?;
    let filled = to.len();
    to.resize(filled + size, 0);
    reader.read_exact(&mut to[filled..])?;
    read_line(reader)?;
    Ok(size > 0)
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed HTTP: {what:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn answering(answer: &'static [u8]) -> Connection {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            // Byte by byte: nothing may depend on how the stream is cut.
            for byte in answer {
                socket.write_all(&[*byte]).unwrap();
            }
            // Closing with requests unread would reset the connection.
            socket.shutdown(std::net::Shutdown::Write).unwrap();
            socket.read_to_end(&mut Vec::new()).unwrap();
        });
        Connection::open(address, Duration::from_secs(5)).unwrap()
    }

    const GET: Request = Request { method: "GET", path: "/", headers: "", body: b"" };

    #[test]
    fn records_may_span_chunks() {
        let connection = answering(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n5\nab\r\n9\r\ncde2\nfg3\n\r\n3\r\nhij\r\n0\r\n\r\n",
        );
        let mut records = connection.subscribe(GET).unwrap().unwrap();
        for expected in [&b"abcde"[..], b"fg", b"hij"] {
            assert_eq!(records.next().unwrap().unwrap(), expected);
        }
        assert!(records.next().unwrap().is_none());
    }

    #[test]
    fn answers_come_in_order() {
        let mut connection =
            answering(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\nHTTP/1.1 400 Bad\r\nContent-Length: 3\r\n\r\nwhy");
        connection.push(GET);
        connection.push(GET);
        connection.flush().unwrap();
        assert_eq!(connection.receive().unwrap().status, 202);
        assert_eq!(connection.receive().unwrap().body, b"why");
    }

    #[test]
    fn a_refusal_is_not_a_stream() {
        let connection = answering(b"HTTP/1.1 307 Redirect\r\nLocation: //127.0.0.1:1/x\r\nContent-Length: 0\r\n\r\n");
        let response = connection.subscribe(GET).unwrap().unwrap_err();
        assert_eq!(response.header("location"), Some("//127.0.0.1:1/x"));
    }
}
