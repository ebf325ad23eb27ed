//! Queues of Azure Storage, of Azurite.

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use microscaler_testbed::{Server, Stopped};
use reqwest::{Client, Method, Url};
use ring::hmac;
use serde_json::{Value, json};

use crate::fixture::{Files, Fixture, arguments, is, metric};
use crate::http::serve;
use crate::https::{client, over_tls, tls};

/// The keys of the account `shop`.
const KEYS: [&str; 2] = ["Zmlyc3Qga2V5IG9mIHRoZSBhY2NvdW50", "c2Vjb25kIGtleSBvZiB0aGUgYWNjb3VudA=="];

struct Azurite {
    server: Server,
    client: Client,
    secrets: Files,
}

impl Azurite {
    async fn start() -> Self {
        Self::with(Server::new("azurite").unwrap(), &[]).await
    }

    /// With one queue, `orders`.
    async fn with(stopped: Stopped, options: &[&str]) -> Self {
        let stopped = stopped.environment("AZURITE_ACCOUNTS", format!("shop:{}:{}", KEYS[0], KEYS[1]));
        let own = ["--queuePort", "{port}", "--inMemoryPersistence", "--disableTelemetry"];
        let server = stopped.start("azurite-queue", arguments(&[&own, options].concat())).unwrap();
        let azurite = Self { server, client: client(), secrets: Files::new() };
        azurite.keep(&azurite.with_key(KEYS[0]));
        azurite.create().await;
        azurite
    }

    fn endpoint(&self) -> String {
        format!("QueueEndpoint={}/shop", self.server.url())
    }

    fn with_key(&self, key: &str) -> String {
        format!("DefaultEndpointsProtocol=http;AccountName=shop;AccountKey={key};{}", self.endpoint())
    }

    fn keep(&self, connection: &str) {
        self.secrets.write("connection", connection);
    }

    /// Does something with a signature of the tests' own.
    async fn ask(&self, method: Method, path: &str, body: &str) -> StatusCode {
        let separator = if path.contains('?') { '&' } else { '?' };
        let url = format!("{}/shop/{path}{separator}{}", self.server.url(), signature("rwdlacup"));
        self.client.request(method, url).body(body.to_owned()).send().await.unwrap().status()
    }

    async fn create(&self) {
        assert_eq!(self.ask(Method::PUT, "orders", "").await, StatusCode::CREATED);
    }

    async fn put(&self, count: usize) {
        for _ in 0..count {
            let message = "<QueueMessage><MessageText>an order &lt;QueueMessage&gt;</MessageText></QueueMessage>";
            assert_eq!(self.ask(Method::POST, "orders/messages", message).await, StatusCode::CREATED);
        }
    }

    fn spec(&self, queue: &str) -> Value {
        spec(queue, &self.secrets)
    }

    fn fixture(&self, queue: &str) -> Fixture {
        Fixture::of(metric("m", "azureQueue", &self.spec(queue)))
    }

    /// The failure of a metric of this queue, without what was asked.
    async fn refused(&self, queue: &str) -> String {
        let failure = self.fixture(queue).failure().await;
        let asked = format!("GET {}/shop/{queue}: ", self.server.url());
        failure.strip_prefix(&asked).unwrap_or(&failure).to_owned()
    }
}

fn spec(queue: &str, secrets: &Files) -> Value {
    json!({"queueName": queue, "connection": secrets.named("connection"), "pollMilliseconds": 20, "timeoutMilliseconds": 20_000})
}

/// A signature for the account that allows this for ever.
/// <https://learn.microsoft.com/rest/api/storageservices/create-account-sas>
fn signature(permissions: &str) -> String {
    let (version, end) = ("2020-10-02", "2099-01-01T00:00:00Z");
    let signed = format!("shop\n{permissions}\nq\nsco\n\n{end}\n\n\n{version}\n");
    let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(KEYS[0]).unwrap());
    let signature = STANDARD.encode(hmac::sign(&key, signed.as_bytes()));
    let parameters = [("sv", version), ("ss", "q"), ("srt", "sco"), ("sp", permissions), ("se", end), ("sig", &signature)];
    Url::parse_with_params("http://x", parameters).unwrap().query().unwrap().to_owned()
}

#[tokio::test]
async fn messages_are_counted_as_the_spec_says() {
    let azurite = Azurite::start().await;
    let fixture = azurite.fixture("orders");
    assert!(is(0.0)(fixture.value().await));
    azurite.put(3).await;
    fixture.until_value(is(3.0)).await;
    // One of them is being worked on.
    assert_eq!(azurite.ask(Method::GET, "orders/messages?visibilitytimeout=600", "").await, StatusCode::OK);
    let mut spec = azurite.spec("orders");
    spec["queueLengthStrategy"] = "visibleonly".into();
    let visible = Fixture::of(metric("m", "azureQueue", &spec));
    visible.until_value(is(2.0)).await;
    assert!(is(3.0)(azurite.fixture("orders").value().await));
    // More than Azure shows.
    azurite.put(30).await;
    visible.until_value(is(33.0)).await;
}

#[tokio::test]
async fn only_who_may_is_answered() {
    let azurite = Azurite::start().await;
    let refused = "the key or the signature in connection is refused: it may have been replaced or have expired";
    azurite.keep(&azurite.with_key(&STANDARD.encode("another key")));
    assert_eq!(azurite.refused("orders").await, refused);
    azurite.keep(&format!("{};SharedAccessSignature={}", azurite.endpoint(), signature("r").replace("sig=", "sig=x")));
    assert_eq!(azurite.refused("orders").await, refused);
    azurite.keep(&format!("{};SharedAccessSignature={}", azurite.endpoint(), signature("a")));
    assert_eq!(azurite.refused("orders").await, "connection does not allow to read the queue");
    azurite.keep("shop");
    assert_eq!(azurite.refused("orders").await, "connection: it has no AccountName");
    azurite.keep(&azurite.with_key(KEYS[0]));
    assert_eq!(azurite.refused("nowhere").await, "there is no such queue");
}

#[tokio::test]
async fn a_connection_string_that_has_changed_is_read_anew() {
    let azurite = Azurite::start().await;
    let fixture = azurite.fixture("orders");
    assert!(is(0.0)(fixture.value().await));
    azurite.keep(&azurite.with_key(&STANDARD.encode("another key")));
    fixture.until_failure("the key or the signature in connection is refused").await;
    azurite.keep(&azurite.with_key(KEYS[1]));
    assert!(is(0.0)(fixture.value().await));
    // To another account's server.
    let other = Azurite::start().await;
    other.put(2).await;
    azurite.keep(&format!("{};SharedAccessSignature={}", other.endpoint(), signature("r")));
    fixture.until_value(is(2.0)).await;
}

#[tokio::test]
async fn a_server_that_is_started_again_is_found() {
    let azurite = Azurite::start().await;
    azurite.put(1).await;
    let fixture = azurite.fixture("orders");
    assert!(is(1.0)(fixture.value().await));
    azurite.server.kill();
    fixture.failure().await;
    fixture.failure_keeps(1.0).await;
    azurite.server.start().unwrap();
    // It has forgotten its queues.
    fixture.until_failure("there is no such queue").await;
    azurite.create().await;
    fixture.until_value(is(0.0)).await;
}

#[tokio::test]
async fn over_tls_only_an_authority_that_is_named_is_trusted() {
    let (stopped, ours) = over_tls("azurite");
    let azurite = Azurite::with(stopped, &["--cert", "server.pem", "--key", "server.key"]).await;
    assert_eq!(azurite.refused("orders").await, "invalid peer certificate: UnknownIssuer");
    let mut spec = azurite.spec("orders");
    spec["tls"] = tls(ours.path(), None);
    assert!(is(0.0)(Fixture::of(metric("m", "azureQueue", &spec)).value().await));
}

#[tokio::test]
async fn garbage_is_a_failure() {
    let secrets = Files::new();
    let mut headers = HeaderMap::new();
    headers.insert("x-ms-approximate-messages-count", "many".parse().unwrap());
    for (status, headers, strategy, expected) in [
        (200, HeaderMap::new(), "all", "not an answer of Azure: it has no approximate-messages-count"),
        (200, headers, "all", "not an answer of Azure: it has no approximate-messages-count"),
        (200, HeaderMap::new(), "visibleonly", "not an answer of Azure: it has no QueueMessagesList"),
        (503, HeaderMap::new(), "all", "status 503: <html>"),
    ] {
        let answer = (StatusCode::from_u16(status).unwrap(), headers, "<html>");
        let handler = move || async move { answer };
        let router = Router::new().route("/orders", get(handler.clone())).route("/orders/messages", get(handler));
        let (address, _task) = serve(router).await;
        secrets.write("connection", &format!("AccountName=shop;AccountKey=a2V5;QueueEndpoint=http://{address}"));
        let mut spec = spec("orders", &secrets);
        spec["queueLengthStrategy"] = strategy.into();
        let failure = Fixture::of(metric("m", "azureQueue", &spec)).failure().await;
        assert_eq!(failure, format!("GET http://{address}/orders: {expected}"));
    }
}

#[tokio::test]
async fn queues_of_several_apps_are_read_side_by_side() {
    let azurite = Azurite::start().await;
    Fixture::side_by_side("azureQueue", &azurite.spec("orders"), &azurite.spec("nowhere")).await;
}
