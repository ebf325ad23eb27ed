//! A real RabbitMQ, over AMQP and over HTTP. It takes many seconds to start, so that all share one.

use std::time::Duration;

use lapin::options::{BasicPublishOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use microscaler::demand::tls::Material;
use microscaler_testbed::{Authority, Server};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::time::sleep;

use crate::fixture::{Files, Fixture, arguments, is, metric, with};
use crate::https::certificates_count_on_both_sides;

/// A node with listeners for AMQP, with and without TLS, and HTTP.
struct Rabbit {
    server: Server,
    tls: u16,
    http: u16,
    secrets: Files,
}

/// Erlang finds nodes by way of a daemon (epmd), of which there is one for each server, on a port of its own.
fn rabbit() -> Rabbit {
    let mut server = Server::new("rabbitmq").unwrap();
    let [tls, http, distribution, epmd] = [(); 4].map(|()| server.another_port().unwrap());
    let home = server.directory().display().to_string();
    Authority::new().unwrap().write(server.directory(), &["server", "client"]).unwrap();
    let config = format!(
        "listeners.ssl.1 = 127.0.0.1:{tls}\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {http}\n\
         ssl_options.cacertfile = {home}/ca.pem\nssl_options.certfile = {home}/server.pem\nssl_options.keyfile = {home}/server.key\n\
         ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\nloopback_users = none\n\
         collect_statistics_interval = 250\nlog.console = true\nlog.file = false\n"
    );
    server.file("rabbitmq.conf", &config).unwrap();
    server.file("plugins", "[rabbitmq_management].").unwrap();
    let environment = [
        ("HOME", home.clone()),
        ("ERL_EPMD_PORT", epmd.to_string()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
        ("RABBITMQ_CONF_ENV_FILE", "/dev/null".to_owned()),
        ("RABBITMQ_CONFIG_FILE", format!("{home}/rabbitmq.conf")),
        ("RABBITMQ_ADVANCED_CONFIG_FILE", format!("{home}/none.config")),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", format!("{home}/plugins")),
        ("RABBITMQ_MNESIA_BASE", format!("{home}/mnesia")),
        ("RABBITMQ_LOG_BASE", home.clone()),
        ("RABBITMQ_PID_FILE", format!("{home}/pid")),
        ("RABBITMQ_DIST_PORT", distribution.to_string()),
        ("RABBITMQ_NODENAME", format!("rabbit-{epmd}@localhost")),
        ("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1".to_owned()),
        // So that the script becomes the node itself, and the process that is killed is the right one.
        ("RABBITMQ_ALLOW_INPUT", "true".to_owned()),
        ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-noinput +S 2:2 +sbwt none".to_owned()),
    ];
    let server = environment.into_iter().fold(server, |server, (name, value)| server.environment(name, value));
    let own = ["-c", "RABBITMQ_NODE_PORT={port} exec /usr/lib/rabbitmq/bin/rabbitmq-server"];
    Rabbit { server: server.start("/bin/sh", arguments(&own)).unwrap(), tls, http, secrets: Files::new() }
}

impl Rabbit {
    fn amqp(&self) -> String {
        format!("amqp://{}", self.server.address())
    }

    /// Asks the management plugin, until it is there.
    async fn manage(&self, method: Method, path: &str, body: Value) -> Value {
        let url = format!("http://127.0.0.1:{}/api/{path}", self.http);
        let client = reqwest::Client::builder().tls_backend_preconfigured(Material::default().config().unwrap()).build().unwrap();
        let mut last = None;
        for _ in 0..450 {
            let request = client.request(method.clone(), &url).basic_auth("guest", Some("guest")).json(&body);
            match request.send().await {
                Ok(answer) if answer.status().is_success() => {
                    return serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default();
                }
                // It has gone by itself.
                Ok(answer) if method == Method::DELETE && answer.status() == StatusCode::NOT_FOUND => return Value::Null,
                other => last = Some(other),
            }
            sleep(Duration::from_millis(200)).await;
        }
        panic!("{method} {url}: {last:?}");
    }

    async fn channel(&self) -> Channel {
        let connection = loop {
            match Connection::connect(
                &format!("{}/%2f", self.amqp().replace("//", "//guest:guest@")),
                ConnectionProperties::default(),
            )
            .await
            {
                Ok(connection) => break connection,
                Err(_) => sleep(Duration::from_millis(200)).await,
            }
        };
        let channel = connection.create_channel().await.unwrap();
        // It ends with the test's process.
        std::mem::forget(connection);
        channel
    }

    fn of(&self, host: &str, more: Value) -> Fixture {
        Fixture::of(metric("m", "rabbitmq", &self.spec(host, &more)))
    }

    fn spec(&self, host: &str, more: &Value) -> Value {
        let spec = json!({
            "host": host, "queueName": "jobs", "username": "guest", "password": self.secrets.named("guest"),
            "pollMilliseconds": 50, "timeoutMilliseconds": 10_000,
        });
        with(spec, more)
    }
}

async fn publish(channel: &Channel, count: usize) {
    for _ in 0..count {
        let sent =
            channel.basic_publish("".into(), "jobs".into(), BasicPublishOptions::default(), b"x", BasicProperties::default());
        sent.await.unwrap().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_is_followed_whatever_happens() {
    let rabbit = rabbit();
    rabbit.secrets.write("guest", "guest");
    let channel = rabbit.channel().await;
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare("jobs".into(), durable, FieldTable::default()).await.unwrap();
    values_follow(&rabbit, &channel).await;
    what_is_wrong_is_said_in_words(&rabbit).await;
    metrics_share_a_connection(&rabbit).await;
    a_changed_password_is_taken_up(&rabbit).await;
    tls_is_spoken(&rabbit).await;
    a_restart_is_survived(&rabbit).await;
}

async fn values_follow(rabbit: &Rabbit, channel: &Channel) {
    let http = format!("http://127.0.0.1:{}", rabbit.http);
    let fixtures = [
        rabbit.of(&rabbit.amqp(), json!({})),
        rabbit.of(&http, json!({})),
        rabbit.of(&http, json!({"excludeUnacknowledged": true})),
        rabbit.of(&http, json!({"mode": "MessageRate"})),
        rabbit.of(&rabbit.amqp(), json!({"mode": "Consumers"})),
    ];
    for fixture in &fixtures {
        fixture.until_value(is(0.0)).await;
    }
    publish(channel, 3).await;
    for fixture in &fixtures[..3] {
        fixture.until_value(is(3.0)).await;
    }
    // One is taken, and not acknowledged.
    channel.basic_get("jobs".into(), lapin::options::BasicGetOptions::default()).await.unwrap().unwrap();
    fixtures[0].until_value(is(2.0)).await;
    fixtures[2].until_value(is(2.0)).await;
    fixtures[1].until_value(is(3.0)).await;
    let consumer =
        channel.basic_consume("jobs".into(), "c".into(), lapin::options::BasicConsumeOptions::default(), FieldTable::default());
    let _consumer = consumer.await.unwrap();
    fixtures[4].until_value(is(1.0)).await;
    channel.basic_cancel("c".into(), lapin::options::BasicCancelOptions::default()).await.unwrap();
    fixtures[4].until_value(is(0.0)).await;
    let publishing = async {
        loop {
            publish(channel, 1).await;
            sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = publishing => {}
        _ = fixtures[3].until_value(|rate| rate > 0.0) => {}
    }
}

async fn what_is_wrong_is_said_in_words(rabbit: &Rabbit) {
    let (amqp, http) = (rabbit.amqp(), format!("http://127.0.0.1:{}", rabbit.http));
    let wrong = rabbit.secrets.write("wrong", "wrong");
    for (host, more, expected) in [
        (&amqp, json!({"queueName": "none"}), "HOST: queue none: NOT_FOUND - no queue 'none' in vhost '/'"),
        (&amqp, json!({"vhostName": "none"}), "HOST: queue jobs: NOT_ALLOWED - vhost none not found"),
        (
            &amqp,
            json!({"password": wrong}),
            "HOST: queue jobs: ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN.",
        ),
        (&http, json!({"queueName": "none"}), "GET HOST/api/queues/%2F/none: status 404"),
        (&http, json!({"password": wrong}), "GET HOST/api/queues/%2F/jobs: status 401"),
    ] {
        let failure = rabbit.of(host, more).failure().await;
        assert!(failure.starts_with(&expected.replace("HOST", host)), "{failure}");
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let failure = rabbit.of(&format!("amqp://{address}"), json!({"timeoutMilliseconds": 2000})).failure().await;
    assert!(!failure.is_empty());
}

/// The names of our connections, as the management plugin knows them.
async fn connections(rabbit: &Rabbit) -> Vec<String> {
    let all = rabbit.manage(Method::GET, "connections", json!({})).await;
    let ours = |connection: &&Value| connection["client_properties"]["connection_name"] == "microscaler";
    all.as_array().unwrap().iter().filter(ours).map(|connection| connection["name"].as_str().unwrap().to_owned()).collect()
}

async fn connections_until(rabbit: &Rabbit, fits: impl Fn(&[String]) -> bool) -> Vec<String> {
    for _ in 0..900 {
        let names = connections(rabbit).await;
        if fits(&names) {
            return names;
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("{:?}", connections(rabbit).await);
}

async fn metrics_share_a_connection(rabbit: &Rabbit) {
    connections_until(rabbit, <[_]>::is_empty).await;
    let _fixture = Fixture::of_many("rabbitmq", &rabbit.spec(&rabbit.amqp(), &json!({}))).await;
    let names = connections_until(rabbit, |names| !names.is_empty()).await;
    assert_eq!(names.len(), 1, "{names:?}");
}

async fn a_changed_password_is_taken_up(rabbit: &Rabbit) {
    let put = |path, body| rabbit.manage(Method::PUT, path, body);
    put("users/shop", json!({"password": "one", "tags": ""})).await;
    put("permissions/%2F/shop", json!({"configure": ".*", "write": ".*", "read": ".*"})).await;
    let password = rabbit.secrets.write("shop", "one\n");
    let fixture = rabbit.of(&rabbit.amqp(), json!({"username": "shop", "password": password}));
    fixture.value().await;
    put("users/shop", json!({"password": "two", "tags": ""})).await;
    // Whoever is in stays in, until the connection is closed. That of the last step may still be listed.
    let closing = async {
        loop {
            for name in connections(rabbit).await {
                let path = format!("connections/{}", name.replace(' ', "%20").replace('>', "%3E"));
                rabbit.manage(Method::DELETE, &path, json!({})).await;
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        () = closing => {}
        _ = fixture.until_failure("ACCESS_REFUSED") => {}
    }
    rabbit.secrets.write("shop", "two\n");
    fixture.value().await;
}

async fn tls_is_spoken(rabbit: &Rabbit) {
    let host = format!("amqps://127.0.0.1:{}", rabbit.tls);
    let shown = format!("{host}: queue jobs");
    let of = |tls: Value| rabbit.of(&host, json!({"tls": tls}));
    certificates_count_on_both_sides(rabbit.server.directory(), &shown, of).await;
}

async fn a_restart_is_survived(rabbit: &Rabbit) {
    let fixture = rabbit.of(&rabbit.amqp(), json!({}));
    let before = fixture.value().await;
    rabbit.server.kill();
    fixture.until_failure("connection refused").await;
    fixture.failure_keeps(before).await;
    rabbit.server.start().unwrap();
    let channel = rabbit.channel().await;
    channel.queue_purge("jobs".into(), lapin::options::QueuePurgeOptions::default()).await.unwrap();
    publish(&channel, 5).await;
    fixture.until_value(is(5.0)).await;
}
