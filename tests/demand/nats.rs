//! A real NATS server with JetStream.

use std::path::Path;

use async_nats::{Client, ConnectOptions};
use futures::StreamExt as _;
use microscaler::demand::tls::Material;
use microscaler_testbed::{Authority, Server};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::fixture::{Fixture, app, metric};

/// The pair of keys of NATS' own documentation.
const USER: &str = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";
const SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
const USERS: &str = "authorization {users: [{user: admin, password: admin}, {user: shop, password: one}]}\n";

struct Nats {
    server: Server,
    monitor: u16,
}

/// With what is to be added to the configuration.
fn nats(config: &str) -> Nats {
    let mut server = Server::new("nats").unwrap();
    let monitor = server.another_port().unwrap();
    let directory = server.directory().display().to_string();
    Authority::new().unwrap().write(server.directory(), &["server", "client"]).unwrap();
    server.file("nats.conf", &configuration(config, &directory)).unwrap();
    let arguments = move |port: u16, directory: &Path| {
        let directory = directory.display().to_string();
        ["-a", "127.0.0.1", "-p", &port.to_string(), "-m", &monitor.to_string(), "-c", &format!("{directory}/nats.conf")]
            .map(str::to_owned)
            .to_vec()
    };
    Nats { server: server.start("nats-server", arguments).unwrap(), monitor }
}

fn configuration(more: &str, directory: &str) -> String {
    format!("jetstream {{store_dir: \"{directory}\"}}\n{}", more.replace("DIRECTORY", directory))
}

impl Nats {
    fn url(&self) -> String {
        format!("nats://{}", self.server.address())
    }

    fn file(&self, name: &str) -> Value {
        json!({"file": self.server.directory().join(name)})
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.server.directory().join(name), text).unwrap();
    }

    fn spec(&self, more: &Value) -> Value {
        let mut spec = json!({
            "servers": [self.url()], "stream": "orders", "consumer": "workers", "pollMilliseconds": 20, "timeoutMilliseconds": 5000,
        });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
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

fn is(expected: f64) -> impl Fn(f64) -> bool {
    move |value| (value - expected).abs() < 1e-9
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
    let reading = fixture.until(|reading| reading.failure.is_some()).await;
    assert!(reading.value.is_some_and(|(value, _)| is(2.0)(value)), "the value was lost");
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
    nats.write("password", "wrong");
    let fixture = nats.of(json!({"username": "shop", "password": nats.file("password")}));
    fixture.until_failure("authorization violation").await;
    nats.write("password", "one\n");
    fixture.until_value(is(2.0)).await;
    let directory = nats.server.directory().display().to_string();
    nats.write("nats.conf", &configuration(&USERS.replace("one", "two"), &directory));
    nats.server.signal(Signal::HUP).unwrap();
    fixture.until_failure("authorization violation").await;
    nats.write("password", "two\n");
    fixture.until_value(is(2.0)).await;
}

#[tokio::test]
async fn tokens_and_keys_let_us_in() {
    let keyed = nats(&format!("authorization {{users: [{{nkey: {USER}}}]}}\n"));
    keyed.prepared(ConnectOptions::with_nkey(SEED.to_owned())).await;
    keyed.write("seed", SEED);
    keyed.of(json!({"nkeySeed": keyed.file("seed")})).until_value(is(0.0)).await;
    keyed.write("text", "no credentials");
    let failure = keyed.of(json!({"credentials": keyed.file("text")})).failure().await;
    assert!(failure.starts_with("the credentials cannot be read: "), "{failure}");
    let open = nats("authorization {token: s3cret}\n");
    open.prepared(ConnectOptions::with_token("s3cret".to_owned())).await;
    open.write("token", "s3cret");
    open.of(json!({"token": open.file("token")})).until_value(is(0.0)).await;
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
    let metrics: Vec<Value> = (0..4).map(|n| metric(&format!("m{n}"), "nats", &nats.spec(&json!({})))).collect();
    let mut fixture = Fixture::new();
    fixture.sources.sync(&[app("search", json!(metrics)), app("find", json!([metrics[0]]))]);
    let mut missing: Vec<_> = (0..4).map(|n| ("search", format!("m{n}"))).chain([("find", "m0".to_owned())]).collect();
    while !missing.is_empty() {
        let found: Vec<_> = fixture.next().await.into_iter().filter(|update| update.reading.value.is_some()).collect();
        missing.retain(|(app, metric)| !found.iter().any(|update| update.app.name() == *app && *update.metric == **metric));
    }
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
    let with = |tls: Value| nats.of(json!({"tls": tls}));
    let file = |name: &str| nats.file(name);
    with(json!({"ca": file("ca.pem"), "cert": file("client.pem"), "key": file("client.key")})).until_value(is(0.0)).await;
    with(json!({"unsafeSsl": true, "cert": file("client.pem"), "key": file("client.key")})).until_value(is(0.0)).await;
    let failure = with(json!({"cert": file("client.pem"), "key": file("client.key")})).failure().await;
    assert!(failure.starts_with(&format!("{}: invalid peer certificate", nats.url())), "{failure}");
    let failure = with(json!({"ca": file("ca.pem")})).failure().await;
    assert!(failure.starts_with(&format!("{}: ", nats.url())), "{failure}");
    assert!(nats.of(json!({})).failure().await.contains("invalid peer certificate"));
}
