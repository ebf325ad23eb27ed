//! The lag of groups at a real Apache Kafka.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use microscaler::store::secrets::{Secret, Secrets};
use microscaler_testbed::{Authority, Port, Server};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::fixture::{Files, Fixture, app, is, metric, with};

/// The least that Java needs, for it to start fast.
const JAVA: [&str; 3] = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];
/// Kafka's tools, by their classes.
const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
const PRODUCER: &str = "org.apache.kafka.tools.ConsoleProducer";
const CONFIGS: &str = "org.apache.kafka.tools.ConfigCommand";

/// One broker, which is its own controller: open at its first port, with TLS and passwords at another.
struct Kafka {
    server: Server,
    secure: Port,
    _controller: Port,
    authority: Authority,
    secrets: Files,
}

fn settings(port: u16, secure: u16, controller: u16, home: &Path) -> String {
    let module = |name: &str| format!("org.apache.kafka.common.security.{name} required");
    let (plain, scram) = (module("plain.PlainLoginModule"), module("scram.ScramLoginModule"));
    let home = home.display();
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=OPEN://127.0.0.1:{port},SECURE://127.0.0.1:{secure},CONTROLLER://127.0.0.1:{controller}
listener.security.protocol.map=OPEN:PLAINTEXT,SECURE:SASL_SSL,CONTROLLER:PLAINTEXT
inter.broker.listener.name=OPEN
log.dirs={home}/data
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
listener.name.secure.ssl.keystore.type=PEM
listener.name.secure.ssl.keystore.location={home}/keystore.pem
listener.name.secure.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.secure.plain.sasl.jaas.config={plain} user_alice=\"secret\";
listener.name.secure.scram-sha-256.sasl.jaas.config={scram};
listener.name.secure.scram-sha-512.sasl.jaas.config={scram};
"
    )
}

impl Kafka {
    fn start() -> Self {
        let stopped = Server::new("kafka").unwrap();
        let (secure, controller) = (Port::reserve().unwrap(), Port::reserve().unwrap());
        let authority = Authority::new().unwrap();
        let pair = authority.issue("server").unwrap();
        stopped.file("keystore.pem", &format!("{}{}", pair.key, pair.certificate)).unwrap();
        let classes = format!("{}/*", stopped.installed().display());
        let configured = {
            let (secure, controller) = (secure.number, controller.number);
            move |port, home: &Path| settings(port, secure, controller, home)
        };
        let properties = stopped.file("server.properties", &configured(1, stopped.directory())).unwrap();
        let format = ["format", "-t", "bWljcm9zY2FsZXIta2Fma2E", "-c", properties.to_str().unwrap()];
        let users = ["--add-scram", "SCRAM-SHA-256=[name=alice,password=secret]", "--add-scram"];
        let more = ["SCRAM-SHA-512=[name=alice,password=longer]"];
        java(&classes, "kafka.tools.StorageTool", &[&format[..], &users, &more].concat(), "");
        let server = stopped.environment("CLASSPATH", classes).start("/usr/bin/java", move |port, home| {
            let file = home.join("server.properties");
            std::fs::write(&file, configured(port, home)).unwrap();
            let mut words: Vec<String> = JAVA.map(str::to_owned).into();
            words.extend(["kafka.Kafka".to_owned(), file.display().to_string()]);
            words
        });
        let kafka = Self { server: server.unwrap(), secure, _controller: controller, authority, secrets: Files::new() };
        kafka.secrets.write("ca", kafka.authority.pem());
        kafka.secrets.write("user", "alice");
        kafka.secrets.write("password", "secret");
        kafka
    }

    /// Runs one of Kafka's tools.
    fn tool(&self, class: &str, arguments: &[&str], input: &str) -> String {
        let classes = format!("{}/*", microscaler_testbed::install_server("kafka").unwrap().display());
        let address = self.server.address().to_string();
        java(&classes, class, &[&["--bootstrap-server", &address], arguments].concat(), input)
    }

    fn create(&self, topic: &str, partitions: &str) {
        self.tool(TOPICS, &["--create", "--topic", topic, "--partitions", partitions], "");
    }

    /// Sends this many messages, to partitions of the tool's choice.
    fn produce(&self, topic: &str, count: usize) {
        let messages: String = (0..count).map(|number| format!("{number}\n")).collect();
        self.tool(PRODUCER, &["--topic", topic], &messages);
    }

    /// The group, which nobody consumes in, is set to where `to` says in each partition of what `topic` names.
    fn commit(&self, group: &str, topic: &str, to: &[&str]) {
        self.tool(GROUPS, &[&["--reset-offsets", "--execute", "--group", group, "--topic", topic], to].concat(), "");
    }

    /// A metric of the group `workers`, where `more` adds or replaces fields.
    fn metric(&self, more: Value) -> Value {
        let spec = json!({
            "bootstrapServers": self.server.address(), "consumerGroup": "workers", "pollMilliseconds": 50, "timeoutMilliseconds": 5000,
        });
        metric("m", "kafka", &with(spec, &more))
    }

    fn fixture(&self, more: Value) -> Fixture {
        Fixture::of(self.metric(more))
    }

    /// The same by TLS and a password.
    fn secured(&self, mechanism: &str, more: Value) -> Fixture {
        let secured = json!({
            "bootstrapServers": format!("127.0.0.1:{}", self.secure.number), "topic": "orders", "tls": {"ca": self.secrets.named("ca")},
            "sasl": {"mechanism": mechanism, "username": self.secrets.named("user"), "password": self.secrets.named("password")},
        });
        self.fixture(with(secured, &more))
    }

    /// How many connections of ours to this port are open.
    fn connections(port: u16) -> usize {
        let established = |line: &&str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            fields.get(2).is_some_and(|remote| remote.ends_with(&format!(":{port:04X}"))) && fields.get(3) == Some(&"01")
        };
        let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| std::fs::read_to_string(path).unwrap_or_default());
        tables.iter().map(|table| table.lines().filter(established).count()).sum()
    }
}

fn java(classes: &str, class: &str, arguments: &[&str], input: &str) -> String {
    let mut command = Command::new("java");
    command.args(JAVA).arg(class).args(arguments).env("CLASSPATH", classes);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let (told, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{class} {arguments:?}: {told}{said}");
    told.into_owned()
}

#[tokio::test]
async fn lag_is_what_a_group_has_not_committed() {
    let kafka = Kafka::start();
    let orders = || json!({"topic": "orders"});
    let fixture = kafka.fixture(orders());
    fixture.until_failure("topic orders: there is no such topic").await;
    kafka.create("orders", "3");
    // Of each partition, nothing is committed.
    fixture.until_value(is(3.0)).await;
    let with = |name: &str, value: Value| {
        let mut spec = orders();
        spec[name] = value;
        kafka.fixture(spec)
    };
    with("scaleToZeroOnInvalidOffset", json!(true)).until_value(is(0.0)).await;
    let earliest = with("offsetResetPolicy", json!("earliest"));
    earliest.until_value(is(0.0)).await;
    kafka.produce("orders", 20);
    earliest.until_value(is(20.0)).await;
    drop(earliest);

    kafka.commit("workers", "orders", &["--to-latest"]);
    fixture.until_value(is(0.0)).await;
    kafka.produce("orders", 7);
    fixture.until_value(is(7.0)).await;
    kafka.commit("workers", "orders", &["--to-earliest"]);
    fixture.until_value(is(27.0)).await;

    // All topics of the group, or none that it has to do with.
    let all = kafka.fixture(json!({}));
    all.until_value(is(27.0)).await;
    kafka.create("returns", "1");
    kafka.produce("returns", 4);
    kafka.commit("workers", "returns", &["--to-earliest"]);
    all.until_value(is(31.0)).await;
    let failure = kafka.fixture(json!({"consumerGroup": "nobody"})).failure().await;
    let servers = kafka.server.address();
    assert_eq!(
        failure,
        format!("Kafka at {servers}: group nobody has not committed anything yet: name the topic that it consumes")
    );

    // What Kafka's own tool says.
    let told = kafka.tool(GROUPS, &["--describe", "--group", "workers"], "");
    let lags = told.lines().filter_map(|line| line.strip_prefix("workers")?.split_whitespace().nth(4)?.parse::<f64>().ok());
    assert!(is(31.0)(lags.sum()), "{told}");

    restarts(&kafka, &all).await;
    shares(&kafka).await;
}

/// The broker goes away and comes back.
async fn restarts(kafka: &Kafka, all: &Fixture) {
    kafka.server.kill();
    all.failure_keeps(31.0).await;
    all.until_failure(&format!("broker {}: connection refused", kafka.server.address())).await;
    kafka.server.start().unwrap();
    // It takes its old self for another broker at first; the tool waits for it.
    kafka.tool(TOPICS, &["--list"], "");
    all.until_value(is(31.0)).await;
    kafka.produce("orders", 2);
    all.until_value(is(33.0)).await;
}

/// Many metrics, one connection.
async fn shares(kafka: &Kafka) {
    let mut fixture = Fixture::new();
    let apps: Vec<_> = (0..5).map(|n| app(&format!("app-{n}"), json!([kafka.metric(json!({"topic": "orders"}))]))).collect();
    fixture.sources.sync(&apps);
    let before = Kafka::connections(kafka.server.port());
    let mut seen = BTreeSet::new();
    while seen.len() < apps.len() {
        seen.extend(fixture.next().await.into_iter().filter(|update| update.reading.value.is_some()).map(|update| update.app));
    }
    assert_eq!(Kafka::connections(kafka.server.port()), before + 1);
}

#[tokio::test]
async fn passwords_and_tls() {
    let kafka = Kafka::start();
    kafka.create("orders", "2");
    kafka.secured("plaintext", json!({})).until_value(is(2.0)).await;
    let rotated = kafka.secured("scram_sha256", json!({}));
    rotated.until_value(is(2.0)).await;
    kafka.secrets.write("long", "longer");
    let longer =
        json!({"mechanism": "scram_sha512", "username": kafka.secrets.named("user"), "password": kafka.secrets.named("long")});
    kafka.secured("scram_sha512", json!({"sasl": longer})).until_value(is(2.0)).await;

    let refused = format!("broker 127.0.0.1:{}: the user or the password is refused", kafka.secure.number);
    for mechanism in ["plaintext", "scram_sha512"] {
        let sasl =
            json!({"mechanism": mechanism, "username": kafka.secrets.named("user"), "password": kafka.secrets.named("ca")});
        let failure = kafka.secured(mechanism, json!({"sasl": sasl})).until_failure(&refused).await;
        assert!(failure.contains("Authentication failed"), "{failure}");
    }
    // On Kubernetes, nothing of the broker's words is told.
    let secrets = Arc::new(Secrets::in_kubernetes());
    let data = [("user", "alice".to_owned()), ("password", "wrong".to_owned()), ("ca", kafka.authority.pem().to_owned())];
    let data = data.into_iter().map(|(key, value)| (key.to_owned(), value.into_bytes())).collect();
    secrets.put(&("shop".to_owned(), "kafka".to_owned()), Some(&Secret::Data(data)));
    let reference = |key: &str| json!({"secretRef": {"name": "kafka", "key": key}});
    let sasl = json!({"mechanism": "scram_sha256", "username": reference("user"), "password": reference("password")});
    let secured = format!("127.0.0.1:{}", kafka.secure.number);
    let demand = kafka.metric(json!({"bootstrapServers": secured, "sasl": sasl, "tls": {"ca": reference("ca")}}));
    assert_eq!(Fixture::with(secrets, demand).failure().await, format!("Kafka at {secured}: {refused}"));

    kafka.secured("plaintext", json!({"sasl": null})).until_failure("see whether it wants tls or sasl").await;
    kafka.secured("plaintext", json!({"tls": null})).until_failure("see whether it wants tls").await;
    kafka.secrets.write("other", Authority::new().unwrap().pem());
    kafka
        .secured("plaintext", json!({"tls": {"ca": kafka.secrets.named("other")}}))
        .until_failure("TLS: invalid peer certificate")
        .await;
    kafka.secured("plaintext", json!({"tls": {}})).until_failure("TLS: ").await;
    kafka.secured("plaintext", json!({"tls": {"unsafeSsl": true}})).until_value(is(2.0)).await;

    let alter =
        ["--alter", "--entity-type", "users", "--entity-name", "alice", "--add-config", "SCRAM-SHA-256=[password=rotated]"];
    kafka.tool(CONFIGS, &alter, "");
    kafka.secrets.write("password", "mistyped");
    rotated.until_failure(&refused).await;
    kafka.secrets.write("password", "rotated");
    kafka.commit("workers", "orders", &["--to-latest"]);
    rotated.until_value(is(0.0)).await;
}

#[tokio::test]
async fn garbage_is_a_failure() {
    // A web server; a length that is a lie; an answer to another question; one that goes.
    let answers: [&'static [u8]; 4] = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        &[0, 0, 0, 10, 0, 0, 0, 1, 0, 0, 0x7f, 0xff, 0xff, 0xff],
        &[0, 0, 0, 10, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0],
        &[],
    ];
    for answer in answers {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(answer).await;
            }
        });
        let spec = json!({"bootstrapServers": address, "consumerGroup": "workers", "topic": "orders"});
        let failure = Fixture::of(metric("m", "kafka", &spec)).failure().await;
        let expected = if answer.is_empty() {
            "it has closed the connection after ApiVersions: see whether it wants tls or sasl"
        } else {
            "what came for ApiVersions is no answer of Kafka's: see whether it wants tls"
        };
        assert_eq!(failure, format!("Kafka at {address}: broker {address}: {expected}"));
        server.abort();
    }
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    let spec = json!({"bootstrapServers": format!("{nobody},{nobody}"), "consumerGroup": "workers", "topic": "orders"});
    let failure = Fixture::of(metric("m", "kafka", &spec)).failure().await;
    let refused = format!("broker {nobody}: connection refused");
    assert_eq!(failure, format!("Kafka at {nobody},{nobody}: {refused}; {refused}"));
}
