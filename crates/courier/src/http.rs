//! HTTP/1.1 as far as two read-only endpoints need it: GET and HEAD, no bodies, connections that are bounded in number and in time.
//!
//! Knows no TLS and no content: it is given a stream and whoever answers. What is not a plain request for a path is refused and the
//! connection ended, so there is nothing left over for a second reading of it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// The longest head of a request.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// Header lines in it.
const HEADERS_MAX: usize = 64;
/// From the connection's begin, or the answer before, to the whole of a request's head.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// For answering, and for the peer to take it.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// Requests on one connection; then it is made anew, so that the bound on connections is shared out again.
const REQUESTS_MAX: usize = 10_000;

/// What is answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: Status,
    pub(crate) content_type: &'static str,
    pub(crate) cache: Cache,
    pub(crate) body: Vec<u8>,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Ok,
    NotFound,
    Unavailable,
}

/// Whether an answer may be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cache {
    Never,
    ForEver,
}

impl Answer {
    /// A short text about why there is nothing else.
    pub(crate) fn words(status: Status, words: &str) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", cache: Cache::Never, body: format!("{words}\n").into_bytes() }
    }
}

/// Whoever answers requests for paths.
pub(crate) trait Site: Send + Sync {
    fn get(&self, path: &str) -> impl Future<Output = Answer> + Send;
}

enum Asked {
    Get(String),
    Head(String),
}

/// Answers on one connection until it ends, takes too long, or the courier stops.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, site: Arc<impl Site>, stop: CancellationToken) {
    let mut buffer = Vec::new();
    for _ in 0..REQUESTS_MAX {
        let asked = tokio::select! {
            () = stop.cancelled() => break,
            asked = timeout(HEAD_WITHIN, next_request(&mut stream, &mut buffer)) => asked,
        };
        let (path, with_body) = match asked {
            Ok(Ok(Some(Asked::Get(path)))) => (path, true),
            Ok(Ok(Some(Asked::Head(path)))) => (path, false),
            Ok(Err(refusal)) => {
                let _gone = timeout(ANSWER_WITHIN, stream.write_all(refusal.as_bytes())).await;
                break;
            }
            // The peer is done, or too slow.
            Ok(Ok(None)) | Err(_) => break,
        };
        let answering = async {
            let answer = site.get(&path).await;
            stream.write_all(head(&answer).as_bytes()).await?;
            if with_body {
                stream.write_all(&answer.body).await?;
            }
            stream.flush().await
        };
        match timeout(ANSWER_WITHIN, answering).await {
            Ok(Ok(())) => {}
            _ => return,
        }
    }
    let _gone = timeout(ANSWER_WITHIN, stream.shutdown()).await;
}

fn head(answer: &Answer) -> String {
    let status = match answer.status {
        Status::Ok => "200 OK",
        Status::NotFound => "404 Not Found",
        Status::Unavailable => "503 Service Unavailable",
    };
    let cache = match answer.cache {
        Cache::Never => "no-store",
        Cache::ForEver => "public, max-age=31536000, immutable",
    };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: {cache}\r\nX-Content-Type-Options: nosniff\r\n\r\n",
        answer.content_type,
        answer.body.len()
    )
}

/// The next request; `None` at the connection's end. An error is the whole refusal, as it goes out.
async fn next_request<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut Vec<u8>) -> Result<Option<Asked>, String> {
    loop {
        if let Some((asked, length)) = parse(buffer)? {
            buffer.drain(..length);
            return Ok(Some(asked));
        }
        if buffer.len() >= HEAD_BYTES_MAX {
            return Err(refusal("431 Request Header Fields Too Large", "the request's head is too long"));
        }
        let mut piece = [0; 2048];
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return Ok(None),
            Ok(count) => buffer.extend_from_slice(&piece[..count]),
        }
    }
}

fn parse(buffer: &[u8]) -> Result<Option<(Asked, usize)>, String> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(buffer) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(refusal("400 Bad Request", &error.to_string())),
    };
    let has_body = request.headers.iter().any(|header| {
        let name = header.name.to_ascii_lowercase();
        name == "transfer-encoding" || (name == "content-length" && header.value != b"0")
    });
    if has_body {
        return Err(refusal("413 Content Too Large", "a request has no body here"));
    }
    let path = request.path.unwrap_or_default().split('?').next().unwrap_or_default().to_owned();
    match request.method {
        Some("GET") => Ok(Some((Asked::Get(path), length))),
        Some("HEAD") => Ok(Some((Asked::Head(path), length))),
        _ => Err(refusal("405 Method Not Allowed", "only GET and HEAD")),
    }
}

fn refusal(status: &str, words: &str) -> String {
    let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n{allow}Connection: close\r\n\r\n{words}\n",
        words.len() + 1
    )
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]
mod tests {
    use super::*;

    struct Echo;

    impl Site for Echo {
        async fn get(&self, path: &str) -> Answer {
            if path == "/none" { Answer::words(Status::NotFound, "none") } else { Answer::words(Status::Ok, path) }
        }
    }

    async fn answer_to(sent: &[u8]) -> String {
        let (mut ours, theirs) = tokio::io::duplex(64 * 1024);
        let serving = tokio::spawn(serve(theirs, Arc::new(Echo), CancellationToken::new()));
        ours.write_all(sent).await.unwrap();
        ours.shutdown().await.unwrap();
        let mut answer = String::new();
        ours.read_to_string(&mut answer).await.unwrap();
        serving.await.unwrap();
        answer
    }

    #[tokio::test]
    async fn requests_of_one_connection_are_answered_one_after_the_other() {
        let answer =
            answer_to(b"GET /a?x=1 HTTP/1.1\r\nHost: x\r\n\r\nHEAD /b HTTP/1.1\r\nHost: x\r\n\r\nGET /none HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{answer}");
        assert!(answer.contains("\r\n\r\n/a\n") && !answer.contains("/b\n") && answer.contains("404 Not Found"), "{answer}");
    }

    #[tokio::test]
    async fn what_is_not_a_plain_request_is_refused_and_ends_the_connection() {
        for (sent, status) in [
            (&b"POST /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n"[..], "405"),
            (b"GET /a HTTP/1.1\r\nContent-Length: 5\r\n\r\nGET /b HTTP/1.1\r\n\r\n", "413"),
            (b"GET /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /b HTTP/1.1\r\n\r\n", "413"),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 GET /b HTTP/1.1\r\n\r\n", "400"),
        ] {
            let answer = answer_to(sent).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            assert!(!answer.contains("/b"), "{answer}");
        }
        let long = format!("GET /a HTTP/1.1\r\nX: {}", "x".repeat(HEAD_BYTES_MAX));
        assert!(answer_to(long.as_bytes()).await.starts_with("HTTP/1.1 431 "));
    }
}
