//! POST /v1/metrics: metrics of OpenTelemetry over HTTP (OTLP/HTTP), as protobuf or JSON.

use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use flate2::read::MultiGzDecoder;
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use prost::Message;
use serde_json::json;

use super::error::ApiError;
use super::{Shared, access};
use crate::engine::clock;

/// A request, unpacked, in bytes: as much as gRPC takes.
pub(super) const LIMIT: usize = 4 << 20;

/// What OTLP has for errors (google.rpc.Status, without its code, which is not used).
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Failure {
    #[prost(string, tag = "2")]
    pub message: String,
}

/// How a message is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Protobuf,
    Json,
}

impl Format {
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }

    fn of(headers: &HeaderMap) -> Option<Self> {
        let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?.split(';').next()?.trim();
        [Self::Protobuf, Self::Json].into_iter().find(|format| kind.eq_ignore_ascii_case(format.media_type()))
    }
}

pub(super) async fn export(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let format = Format::of(&headers);
    let taken = async {
        access::check(shared.state.push_token.as_deref(), peer.ip(), &headers)?;
        let format = format.ok_or_else(|| {
            let kinds = [Format::Protobuf, Format::Json].map(Format::media_type).join(" or ");
            ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("Content-Type: {kinds} is needed"))
        })?;
        let body = axum::body::to_bytes(body, LIMIT).await.map_err(|_| too_large())?;
        let request = read(format, &unpacked(&headers, body)?)?;
        Ok((format, shared.state.desk.telemetry().take(&request, clock::instant())))
    };
    match taken.await {
        Ok((format, answer)) => written(format, StatusCode::OK, &answer),
        Err(error) => {
            shared.state.metrics.push_error();
            failed(format, error)
        }
    }
}

fn read(format: Format, body: &[u8]) -> Result<ExportMetricsServiceRequest, ApiError> {
    let read = match format {
        Format::Protobuf => ExportMetricsServiceRequest::decode(body).map_err(|error| error.to_string()),
        Format::Json => serde_json::from_slice(body).map_err(|error| error.to_string()),
    };
    read.map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, format!("no ExportMetricsServiceRequest: {error}")))
}

fn unpacked(headers: &HeaderMap, body: Bytes) -> Result<Bytes, ApiError> {
    match headers.get(header::CONTENT_ENCODING).map(|encoding| encoding.to_str().unwrap_or_default()) {
        None | Some("identity" | "") => Ok(body),
        Some("gzip") => {
            let mut unpacked = Vec::new();
            let most = u64::try_from(LIMIT).unwrap_or(u64::MAX) + 1;
            let read = MultiGzDecoder::new(&body[..]).take(most).read_to_end(&mut unpacked);
            read.map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, format!("not gzip: {error}")))?;
            if unpacked.len() > LIMIT { Err(too_large()) } else { Ok(unpacked.into()) }
        }
        Some(other) => {
            let words = format!("Content-Encoding {other} is not known: use gzip, or none");
            Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, words))
        }
    }
}

fn too_large() -> ApiError {
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "the request broke off, or is larger than 4 MiB: send fewer metrics at once")
}

fn written(format: Format, status: StatusCode, answer: &ExportMetricsServiceResponse) -> Response {
    match format {
        Format::Protobuf => (status, [(header::CONTENT_TYPE, format.media_type())], answer.encode_to_vec()).into_response(),
        Format::Json => (status, axum::Json(answer)).into_response(),
    }
}

/// As OTLP wants it, in the format that was spoken.
fn failed(format: Option<Format>, error: ApiError) -> Response {
    let message = error.message.clone();
    let body = match format {
        Some(Format::Protobuf) => Failure { message }.encode_to_vec(),
        _ => json!({ "message": message }).to_string().into_bytes(),
    };
    let mut response = error.into_response();
    let media_type = format.unwrap_or(Format::Json).media_type();
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(media_type));
    response.headers_mut().remove(header::CONTENT_LENGTH);
    response.map(|_| Body::from(body))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn packed(bytes: &[u8]) -> Bytes {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap().into()
    }

    #[test]
    fn what_is_packed_may_not_grow_beyond_the_limit() {
        let headers = HeaderMap::from_iter([(header::CONTENT_ENCODING, "gzip".parse().unwrap())]);
        assert_eq!(unpacked(&headers, packed(b"abc")).unwrap(), "abc");
        assert_eq!(unpacked(&headers, packed(&vec![0; LIMIT])).unwrap().len(), LIMIT);
        let status = |body| unpacked(&headers, body).unwrap_err().status.as_u16();
        assert_eq!(status(packed(&vec![0; LIMIT + 1])), 413);
        assert_eq!(status("abc".into()), 400);
        let unknown = HeaderMap::from_iter([(header::CONTENT_ENCODING, "br".parse().unwrap())]);
        assert_eq!(unpacked(&unknown, Bytes::new()).unwrap_err().status.as_u16(), 415);
    }
}
