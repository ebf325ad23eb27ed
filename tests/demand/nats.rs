//! A real NATS server with JetStream.

use std::path::Path;

use async_nats::{Client, ConnectOptions};
use futures::StreamExt as _;
use microscaler::demand::tls::Material;
use microscaler_testbed::{Authority, Server};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::fixture::{Files, Fixture, arguments, is, metric, with};
use crate::https::certificates_count_on_both_sides;

/// The pair of keys of NATS' own documentation.
const USER: &str = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";
const SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
const USERS: &str = "authorization {users: [{user: admin, password: admin}, {user: shop, password: one}]}\n";

struct Nats {
    server: Server,
    monitor: u16,
    secrets: Files,
}

/// With what is to be added to the configuration.
fn nats(config: &str) -> Nats {
    let mut server = Server::new("nats").unwrap();
    let monitor = server.another_port().unwrap();
    Authority::new().unwrap().write(server.directory(), &["server", "client"]).unwrap();
    configure(server.directory(), config);
    let own = ["-a", "127.0.0.1", "-p", "{port}", "-m", &monitor.to_string(), "-c", "{directory}/nats.conf"];
    Nats { server: server.start("nats-server", arguments(&own)).unwrap(), monitor, secrets: Files::new() }
}

fn configure(directory: &Path, more: &str) {
    let at = directory.display().to_string();
    let text = format!("jetstream {{store_dir: \"{at}\"}}\n{}", more.replace("DIRECTORY", &at));
    std::fs::write(directory.join("nats.conf"), text).unwrap();
}

impl Nats {
    fn url(&self) -> String {
        format!("nats://{}", self.server.address())
    }

    fn spec(&self, more: &Value) -> Value {
        let spec = json!({
            "servers": [self.url()], "stream": "orders", "consumer": "workers", "pollMilliseconds": 20, "timeoutMilliseconds": 5000,
        });
        with(spec, more)
    }

    fn of(&self, more: Value) -> Fixture {
        Fixture::of(metric("m", "nats", &self.spec(&more)))
    }

    /// A client, and the stream with its consumer.
    async fn prepared(&self, options: ConnectOptions) -> Client {
        let client = options.retry_on_initial_connect().connect(self.url()).await.unwrap();
        api(&client, "STREAM.CREATE.orders", json!({"name": "orders", "subjects": ["orders.*"], "storage": "file"})).await;
        let config = json!({"durable_name": "workers", "ack_policy": "explicit"});
        api(&client, "CONSUMER.DURABLE.CREATE.orders.workers", json!({"stream_name": "orders", "config": config})).await;
        client
    }
}

async fn api(client: &Client, method: &str, body: Value) -> Value {
    let answer = client.request(format!("$JS.API.{method}"), body.to_string().into()).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
    assert!(answer.get("error").is_none(), "{answer}");
    answer
}

async fn publish(client: &Client, count: usize) {
    for _ in 0..count {
        client.request("orders.new", "x".into()).await.unwrap();
    }
}

#[tokio::test]
async fn pending_messages_are_followed() {
    let nats = nats("");
    let client = nats.prepared(ConnectOptions::new()).await;
    let fixture = nats.of(json!({}));
    fixture.until_value(is(0.0)).await;
    publish(&client, 3).await;
    fixture.until_value(is(3.0)).await;
    // What is delivered counts until it is acknowledged.
    let inbox = client.new_inbox();
    let mut delivered = client.subscribe(inbox.clone()).await.unwrap();
    client.publish_with_reply("$JS.API.CONSUMER.MSG.NEXT.orders.workers", inbox, "".into()).await.unwrap();
    let message = delivered.next().await.unwrap();
    publish(&client, 1).await;
    fixture.until_value(is(4.0)).await;
    client.publish(message.reply.unwrap(), "+ACK".into()).await.unwrap();
    fixture.until_value(is(3.0)).await;

    for (more, expected) in [
        (json!({"consumer": "none"}), "URL: consumer none of stream orders: consumer not found"),
        (json!({"stream": "none"}), "URL: consumer workers of stream none: stream not found"),
        (json!({"domain": "none"}), "URL: consumer workers of stream orders: there is no JetStream for this account"),
    ] {
        assert_eq!(nats.of(more).failure().await, expected.replace("URL", &nats.url()));
    }
}

#[tokio::test]
async fn a_server_that_goes_away_and_comes_back_is_found_again() {
    let nats = nats("");
    let client = nats.prepared(ConnectOptions::new()).await;
    publish(&client, 2).await;
    let fixture = nats.of(json!({}));
    fixture.until_value(is(2.0)).await;
    nats.server.kill();
    fixture.until_failure(&format!("{}: connection refused", nats.url())).await;
    fixture.failure_keeps(2.0).await;
    nats.server.start().unwrap();
    // The stream is on disk.
    fixture.until_value(is(2.0)).await;
    publish(&client, 1).await;
    fixture.until_value(is(3.0)).await;
}

#[tokio::test]
async fn who_may_not_ask_is_told_and_a_changed_password_is_taken_up() {
    let nats = nats(USERS);
    let client = nats.prepared(ConnectOptions::with_user_and_password("admin".into(), "admin".into())).await;
    publish(&client, 2).await;
    assert!(nats.of(json!({})).failure().await.contains("authorization violation"));
    let password = nats.secrets.write("password", "wrong");
    let fixture = nats.of(json!({"username": "shop", "password": password}));
    fixture.until_failure("authorization violation").await;
    nats.secrets.write("password", "one\n");
    fixture.until_value(is(2.0)).await;
    configure(nats.server.directory(), &USERS.replace("one", "two"));
    nats.server.signal(Signal::HUP).unwrap();
    fixture.until_failure("authorization violation").await;
    nats.secrets.write("password", "two\n");
    fixture.until_value(is(2.0)).await;
}

#[tokio::test]
async fn tokens_and_keys_let_us_in() {
    let keyed = nats(&format!("authorization {{users: [{{nkey: {USER}}}]}}\n"));
    keyed.prepared(ConnectOptions::with_nkey(SEED.to_owned())).await;
    keyed.of(json!({"nkeySeed": keyed.secrets.write("seed", SEED)})).until_value(is(0.0)).await;
    let failure = keyed.of(json!({"credentials": keyed.secrets.write("text", "no credentials")})).failure().await;
    assert!(failure.starts_with("the credentials cannot be read: "), "{failure}");
    let open = nats("authorization {token: s3cret}\n");
    open.prepared(ConnectOptions::with_token("s3cret".to_owned())).await;
    open.of(json!({"token": open.secrets.write("token", "s3cret")})).until_value(is(0.0)).await;
}

#[tokio::test]
async fn what_does_not_speak_nats_has_failed() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let spec = json!({"servers": [format!("nats://{address}")], "stream": "s", "consumer": "c", "timeoutMilliseconds": 5000});
    let failure = Fixture::of(metric("m", "nats", &spec)).failure().await;
    assert!(failure.starts_with(&format!("nats://{address}: ")), "{failure}");
}

#[tokio::test]
async fn metrics_of_one_server_share_a_connection() {
    let nats = nats("");
    nats.prepared(ConnectOptions::new()).await;
    let _fixture = Fixture::of_many("nats", &nats.spec(&json!({}))).await;
    let url = format!("http://127.0.0.1:{}/connz", nats.monitor);
    let http = reqwest::Client::builder().tls_backend_preconfigured(Material::default().config().unwrap()).build().unwrap();
    let told: Value = serde_json::from_slice(&http.get(url).send().await.unwrap().bytes().await.unwrap()).unwrap();
    let ours = told["connections"].as_array().unwrap().iter().filter(|connection| connection["name"] == "microscaler");
    assert_eq!(ours.count(), 1, "{told}");
}

#[tokio::test]
async fn tls_with_an_authority_and_a_certificate_of_our_own() {
    let tls = "tls {cert_file: \"DIRECTORY/server.pem\", key_file: \"DIRECTORY/server.key\", ca_file: \"DIRECTORY/ca.pem\", verify: true}\n";
    let nats = nats(tls);
    let directory = nats.server.directory();
    let options = ConnectOptions::new()
        .add_root_certificates(directory.join("ca.pem"))
        .add_client_certificate(directory.join("client.pem"), directory.join("client.key"));
    nats.prepared(options).await;
    certificates_count_on_both_sides(directory, &nats.url(), |tls| nats.of(json!({"tls": tls}))).await;
    assert!(nats.of(json!({})).failure().await.contains("invalid peer certificate"));
}
