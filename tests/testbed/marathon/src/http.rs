//! HTTP/1.1 to the byte, as Marathon's Jetty speaks it: reason phrases of one's own or none, and streams that neither have a length
//! nor come in chunks. No server crate lets one do that.

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const MAX_HEAD: usize = 64 << 10;
const MAX_BODY: usize = 64 << 20;

#[derive(Clone, Debug, Default)]
pub struct Request {
    pub method: String,
    /// As it came, with the query.
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The path without the query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The parts of the path, unescaped; slashes count once, escaped ones too.
    #[must_use]
    pub fn segments(&self) -> Vec<String> {
        let path = unescaped(self.path());
        path.split('/').filter(|segment| !segment.is_empty()).map(ToOwned::to_owned).collect()
    }

    /// All values of a parameter.
    #[must_use]
    pub fn parameters(&self, name: &str) -> Vec<String> {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.filter(|(key, _)| *key == name).map(|(_, value)| unescaped(&value.replace('+', " "))).collect()
    }

    #[must_use]
    pub fn flag(&self, name: &str, otherwise: bool) -> bool {
        self.parameters(name).first().map_or(otherwise, |value| value.eq_ignore_ascii_case("true"))
    }

    #[must_use]
    pub fn wants_close(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// Whether a type is among those that are accepted, by its name or by a star.
    #[must_use]
    pub fn accepts(&self, mime: &str) -> bool {
        let family = mime.split('/').next().unwrap_or_default();
        let matches = |accepted: &str| {
            let accepted = accepted.split(';').next().unwrap_or_default().trim();
            accepted == mime || accepted == "*/*" || accepted == format!("{family}/*")
        };
        self.header("accept").is_none_or(|accept| accept.split(',').any(matches))
    }
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub struct Response {
    pub status: u16,
    /// In place of the status' own phrase.
    pub reason: Option<String>,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    #[must_use]
    pub fn new(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Jetty's page for errors outside of the API: only for some methods, and with a body only for who takes HTML.
    #[must_use]
    pub fn page(status: u16, reason: &str, request: &Request) -> Self {
        let mut response = Self { status, reason: Some(reason.to_owned()), ..Self::default() };
        if !matches!(request.method.as_str(), "GET" | "POST" | "HEAD") {
            return response;
        }
        response = response.header("Cache-Control", "must-revalidate,no-cache,no-store");
        if request.accepts("text/html") {
            response = response.header("Content-Type", "text/html;charset=iso-8859-1");
            let path = request.path();
            let body = format!(
                "<html>\n<head>\n<meta http-equiv=\"Content-Type\" content=\"text/html;charset=utf-8\"/>\n\
                 <title>Error {status} {reason}</title>\n</head>\n<body><h2>HTTP ERROR {status}</h2>\n\
                 <p>Problem accessing {path}. Reason:\n<pre>    {reason}</pre></p>\n</body>\n</html>\n"
            );
            response.body = body.into_bytes();
        }
        response
    }

    /// The first lines, up to the empty one.
    #[must_use]
    pub fn head(&self, closes: bool, has_length: bool) -> String {
        let reason = self.reason.as_deref().unwrap_or_else(|| reason(self.status));
        let mut head = format!("HTTP/1.1 {} {reason}\r\n", self.status);
        if closes {
            head.push_str("Connection: close\r\n");
        }
        let date = Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT");
        let length = has_length.then(|| ("Content-Length".to_owned(), self.body.len().to_string()));
        let lines = self.headers.iter().chain(&length).map(|(name, value)| format!("{name}: {value}\r\n"));
        head + &format!("Date: {date}\r\n") + &lines.collect::<String>() + "\r\n"
    }
}

/// 422 is none that Jetty knows.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        302 => "Found",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        409 => "Conflict",
        415 => "Unsupported Media Type",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "",
    }
}

/// One connection of a client.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// # Errors
    /// If the socket is gone.
    pub fn new(stream: TcpStream, idle: Duration) -> Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(idle))?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// The next request; none at the end of the connection.
    ///
    /// # Errors
    /// If it is idle for too long, or what comes is not HTTP.
    pub fn receive(&mut self) -> Result<Option<Request>> {
        loop {
            if let Some((mut request, length)) = parse_head(&self.buffer)? {
                self.buffer.drain(..length);
                self.receive_body(&mut request)?;
                return Ok(Some(request));
            }
            if self.buffer.len() > MAX_HEAD {
                bail!("the head of the request is too long");
            }
            if self.read_more()? == 0 {
                return Ok(None);
            }
        }
    }

    fn read_more(&mut self) -> Result<usize> {
        let mut chunk = [0; 16 << 10];
        let count = self.stream.read(&mut chunk)?;
        self.buffer.extend_from_slice(&chunk[..count]);
        Ok(count)
    }

    fn receive_body(&mut self, request: &mut Request) -> Result<()> {
        if request.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        if request.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            while self.receive_chunk(&mut request.body)? {}
            return Ok(());
        }
        let length = request.header("content-length").map_or(Ok(0), str::parse).context("Content-Length")?;
        request.body = self.take(length)?;
        Ok(())
    }

    /// False if it was the last, empty one.
    fn receive_chunk(&mut self, body: &mut Vec<u8>) -> Result<bool> {
        let end = loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                break end;
            }
            if self.read_more()? == 0 {
                bail!("the request ends within a chunk");
            }
        };
        let line = self.take(end + 2)?;
        let size = String::from_utf8_lossy(&line[..end]).into_owned();
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16).context("size of a chunk")?;
        body.extend(self.take(size)?);
        self.take(2)?;
        Ok(size > 0)
    }

    fn take(&mut self, length: usize) -> Result<Vec<u8>> {
        if length > MAX_BODY {
            bail!("a body of {length} bytes is too long");
        }
        while self.buffer.len() < length {
            if self.read_more()? == 0 {
                bail!("the request ends within its body");
            }
        }
        Ok(self.buffer.drain(..length).collect())
    }

    /// # Errors
    /// If the client is gone.
    pub fn send(&mut self, request: &Request, response: &Response) -> Result<()> {
        let mut bytes = response.head(request.wants_close(), response.status != 204).into_bytes();
        if request.method != "HEAD" {
            bytes.extend_from_slice(&response.body);
        }
        self.stream.write_all(&bytes)?;
        Ok(())
    }
}

/// The request without its body, and how long its head is; none if that is not there yet.
fn parse_head(bytes: &[u8]) -> Result<Option<(Request, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = parsed.parse(bytes).context("not HTTP")? else { return Ok(None) };
    let headers = parsed
        .headers
        .iter()
        .map(|header| (header.name.to_ascii_lowercase(), String::from_utf8_lossy(header.value).trim().to_owned()));
    let request = Request {
        headers: headers.collect(),
        method: parsed.method.unwrap_or_default().to_owned(),
        target: parsed.path.unwrap_or_default().to_owned(),
        body: Vec::new(),
    };
    Ok(Some((request, length)))
}

/// `%2F` and the like; what is malformed stays.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = (*first == b'%').then(|| after.get(..2)).flatten().and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(byte) = code.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            bytes.push(byte);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &str) -> Request {
        Request { target: target.to_owned(), ..Request::default() }
    }

    #[test]
    fn paths_and_queries_are_unescaped() {
        for path in ["/v2/apps/a/b", "/v2/apps//a/b/", "/v2/apps/%2Fa%2Fb?x=1"] {
            assert_eq!(request(path).segments(), ["v2", "apps", "a", "b"]);
        }
        let request = request("/x?embed=a&embed=b%20c&force=true");
        assert_eq!(request.parameters("embed"), ["a", "b c"]);
        assert!(request.flag("force", false) && request.flag("absent", true));
    }

    #[test]
    fn an_unknown_status_has_an_empty_reason() {
        let head = Response::new(422).head(false, true);
        assert!(head.starts_with("HTTP/1.1 422 \r\n"), "{head}");
    }
}
