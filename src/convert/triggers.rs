//! KEDA's triggers, by the documentation of its scalers (keda.sh/docs, version 2.17): what each parameter is called here. A parameter that is
//! not asked for is noted by whoever calls.

use reqwest::Url;
use serde_json::{Map, Value, json};

use super::params::Params;

/// Source and target of a metric; `None`: the trigger is not known. Fields that are null are left out.
pub(super) fn metric(kind: &str, params: &mut Params, metric_type: &str, hints: &mut Vec<String>) -> Option<Map<String, Value>> {
    let p = params;
    let (source, body, amount) = match kind {
        "prometheus" => ("prometheus", prometheus(p), p.text("threshold")),
        "redis" | "redis-cluster" | "redis-sentinel" => {
            let body = redis(p, kind, hints);
            ("redis", with(body, "listName", p.text("listName")), p.text("listLength").or(default("5")))
        }
        "redis-streams" | "redis-cluster-streams" | "redis-sentinel-streams" => {
            let (stream, amount) = stream(p);
            let body = redis(p, kind, hints);
            ("redis", with(body, "stream", Some(stream)), amount)
        }
        "rabbitmq" => {
            let mode = p.text("mode").unwrap_or_else(|| "QueueLength".to_owned());
            let amount = p.text("value").or(p.text("queueLength"));
            ("rabbitmq", with(rabbitmq(p, hints), "mode", Some(mode)), amount)
        }
        "kafka" | "apache-kafka" => ("kafka", kafka(p), p.text("lagThreshold").or(default("10"))),
        "nats-jetstream" => ("nats", nats(p, hints), p.text("lagThreshold").or(default("10"))),
        "nsq" => ("nsq", nsq(p), p.text("depthThreshold").or(default("10"))),
        "aws-sqs-queue" => ("sqs", sqs(p), p.text("queueLength").or(default("5"))),
        "azure-queue" => ("azureQueue", azure_queue(p), p.text("queueLength").or(default("5"))),
        "postgresql" => ("postgres", postgres(p), p.text("targetQueryValue")),
        "metrics-api" => ("http", metrics_api(p, hints), p.text("targetValue")),
        "cron" => return Some(Map::from_iter([("schedule".to_owned(), cron(p))])),
        "external" | "external-push" => {
            let body = external(p, hints);
            hints.push("its target is what the scaler told KEDA (GetMetricSpec): averageValue 1 is put in its place".to_owned());
            ("keda", body, default("1"))
        }
        "cpu" | "memory" => {
            let of_utilization = metric_type == "Utilization" || p.text("type").as_deref() == Some("Utilization");
            let amount = p.number("value");
            let (unit, target) = if of_utilization { ("Percent", "utilization") } else { ("Amount", "averageValue") };
            let source = json!({"resource": kind, "unit": unit});
            return Some(Map::from_iter([("mesos".to_owned(), source), ("target".to_owned(), json!({target: amount}))]));
        }
        _ => return None,
    };
    let field = if metric_type == "Value" { "value" } else { "averageValue" };
    let amount = amount.map(|amount| amount.parse::<i64>().map_or_else(|_| json!(amount), Value::from));
    Some(Map::from_iter([(source.to_owned(), clean(body)), ("target".to_owned(), json!({field: amount}))]))
}

#[allow(clippy::unnecessary_wraps, reason = "it stands in for what may be missing")]
fn default(amount: &str) -> Option<String> {
    Some(amount.to_owned())
}

fn with(mut body: Value, field: &str, value: Option<impl Into<Value>>) -> Value {
    if let (Value::Object(fields), Some(value)) = (&mut body, value) {
        fields.insert(field.to_owned(), value.into());
    }
    body
}

/// Without fields that are null.
fn clean(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields.into_iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name, clean(value))).collect(),
        ),
        other => other,
    }
}

/// `a=1,b=2` → `[{name, value}]`.
fn pairs(text: Option<String>) -> Option<Value> {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        Some(json!({"name": name.trim(), "value": value.trim()}))
    };
    text.map(|text| text.split(',').filter_map(pair).collect())
}

/// Bearer, basic and TLS, as `authModes` names them.
fn auth(p: &mut Params) -> Option<Value> {
    let modes = p.text("authModes").or_else(|| p.text("authMode")).unwrap_or_default();
    if modes.contains("bearer") {
        return Some(json!({"bearer": p.secret("bearerToken").or_else(|| p.secret("token"))}));
    }
    if modes.contains("basic") {
        let user = p.text("username").or_else(|| p.secret("username").map(|_| "FILL-IN".to_owned()));
        return Some(json!({"basic": {"username": user, "password": p.secret("password")}}));
    }
    None
}

fn prometheus(p: &mut Params) -> Value {
    // KEDA takes nothing for 0 unless told otherwise.
    let ignores = p.flag("ignoreNullValues").unwrap_or(true);
    json!({
        "serverAddress": p.text("serverAddress"),
        "query": p.text("query"),
        "ignoreNullValues": ignores,
        "customHeaders": pairs(p.text("customHeaders")),
        "queryParameters": pairs(p.text("queryParameters")),
        "auth": auth(p),
        "tls": p.tls(),
    })
}

/// `host:port`, from one parameter or two, and several of them with commas between.
fn addresses(p: &mut Params, hints: &mut Vec<String>) -> Option<Value> {
    let all = |text: String| text.split(',').map(|one| one.trim().to_owned()).collect::<Vec<_>>();
    if let Some(addresses) = p.text_not_secret("address", hints).or_else(|| p.text_not_secret("addresses", hints)) {
        return Some(json!(all(addresses)));
    }
    let (hosts, ports) = (p.text("host").or_else(|| p.text("hosts"))?, p.text("port").or_else(|| p.text("ports"))?);
    Some(all(hosts).iter().zip(all(ports).iter().cycle()).map(|(host, port)| format!("{host}:{port}")).collect())
}

fn redis(p: &mut Params, kind: &str, hints: &mut Vec<String>) -> Value {
    let sentinel = kind.starts_with("redis-sentinel").then(|| {
        json!({
            "master": p.text("sentinelMaster"),
            "username": p.text("sentinelUsername"),
            "password": p.secret("sentinelPassword"),
        })
    });
    json!({
        "addresses": addresses(p, hints),
        "sentinel": sentinel.map(clean),
        "username": p.text_not_secret("username", hints),
        "password": p.secret("password"),
        "databaseIndex": p.number("databaseIndex"),
        "tls": p.tls(),
    })
}

/// Of three ways to count, the one that an amount is given for.
fn stream(p: &mut Params) -> (Value, Option<String>) {
    let (lag, length, pending) = (p.text("lagCount"), p.text("streamLength"), p.text("pendingEntriesCount"));
    let group = p.text("consumerGroup");
    let (entries, amount) = match (lag, length) {
        (Some(lag), _) => (Some("Lag"), Some(lag)),
        (None, Some(length)) => return (json!({"name": p.text("stream")}), Some(length)),
        (None, None) => (Some("Pending"), pending.or(default("5"))),
    };
    (json!({"name": p.text("stream"), "consumerGroup": group, "entries": entries}), amount)
}

/// KEDA has user, password and virtual host in the address; here they have fields of their own.
fn rabbitmq(p: &mut Params, hints: &mut Vec<String>) -> Value {
    if p.secret("host").is_some() {
        hints.push("host is kept in a Secret there, with user and password: fill in host, username and password".to_owned());
    }
    // It is in the address.
    p.text("protocol");
    let host = p.text("host").and_then(|host| Url::parse(&host).ok());
    let path = host.as_ref().map(|url| url.path().trim_start_matches('/').replace("%2f", "/").replace("%2F", "/"));
    let user = host.as_ref().map(|url| url.username().to_owned()).filter(|user| !user.is_empty());
    if host.as_ref().is_some_and(|url| url.password().is_some()) {
        hints.push("host has a password in it: put that into a Secret, and name it as password".to_owned());
    }
    let usual = |scheme: &str| match scheme {
        "amqps" => 5671,
        "http" => 15_672,
        "https" => 15_671,
        _ => 5672,
    };
    let port = |url: &Url| url.port_or_known_default().unwrap_or_else(|| usual(url.scheme()));
    let plain = |url: &Url| Some(format!("{}://{}:{}", url.scheme(), url.host_str()?, port(url)));
    json!({
        "host": host.as_ref().and_then(plain),
        "queueName": p.text("queueName"),
        "vhostName": p.text("vhostName").or(path.filter(|path| !path.is_empty())),
        "excludeUnacknowledged": p.flag("excludeUnacknowledged"),
        "username": p.text_not_secret("username", hints).or(user),
        "password": p.secret("password"),
        "tls": p.tls(),
    })
}

fn kafka(p: &mut Params) -> Value {
    let mechanism = p.text("sasl").or_else(|| p.secret("sasl").map(|_| "FILL-IN".to_owned())).filter(|sasl| sasl != "none");
    let sasl = mechanism
        .map(|mechanism| json!({"mechanism": mechanism, "username": p.secret("username"), "password": p.secret("password")}));
    json!({
        "bootstrapServers": p.text("bootstrapServers"),
        "consumerGroup": p.text("consumerGroup"),
        "topic": p.text("topic"),
        "offsetResetPolicy": p.text("offsetResetPolicy"),
        "scaleToZeroOnInvalidOffset": p.flag("scaleToZeroOnInvalidOffset"),
        "sasl": sasl,
        "tls": p.tls(),
    })
}

fn nats(p: &mut Params, hints: &mut Vec<String>) -> Value {
    if let Some(monitoring) = p.text("natsServerMonitoringEndpoint") {
        let hint = "JetStream itself is asked here: fill in servers, and the credentials of the account";
        hints.push(format!("natsServerMonitoringEndpoint {monitoring}: {hint}"));
    }
    json!({"stream": p.text("stream"), "consumer": p.text("consumer"), "tls": p.tls()})
}

fn nsq(p: &mut Params) -> Value {
    let addresses =
        p.text("nsqLookupdHTTPAddresses").map(|all| all.split(',').map(|one| one.trim().to_owned()).collect::<Vec<_>>());
    json!({
        "nsqLookupdHTTPAddresses": addresses,
        "topic": p.text("topic"),
        "channel": p.text("channel"),
        "useHttps": p.flag("useHttps"),
        "tls": p.tls(),
    })
}

fn sqs(p: &mut Params) -> Value {
    json!({
        "queueURL": p.text("queueURL"),
        "awsRegion": p.text("awsRegion"),
        "awsEndpoint": p.text("awsEndpoint"),
        "scaleOnInFlight": p.flag("scaleOnInFlight"),
        "scaleOnDelayed": p.flag("scaleOnDelayed"),
        "awsAccessKeyID": p.secret("awsAccessKeyID"),
        "awsSecretAccessKey": p.secret("awsSecretAccessKey"),
        "awsSessionToken": p.secret("awsSessionToken"),
    })
}

fn azure_queue(p: &mut Params) -> Value {
    json!({
        "queueName": p.text("queueName"),
        "connection": p.secret("connection"),
        "queueLengthStrategy": p.text("queueLengthStrategy"),
    })
}

fn postgres(p: &mut Params) -> Value {
    // Here a certificate is always checked, unless unsafeSsl.
    let sslmode = p.text("sslmode").map(|mode| match mode.as_str() {
        "allow" => "prefer".to_owned(),
        "verify-ca" | "verify-full" => "require".to_owned(),
        _ => mode,
    });
    let host = p.text("host");
    let connection = if host.is_none() { p.secret("connection") } else { None };
    json!({
        "query": p.text("query"),
        "connection": connection,
        "host": host,
        "port": p.number("port"),
        "userName": p.text("userName"),
        "password": p.secret("password"),
        "dbName": p.text("dbName"),
        "sslmode": sslmode,
        "tls": p.tls(),
    })
}

/// Its `valueLocation` is in GJSON's notation, of which only the plain path is a JSON pointer.
fn metrics_api(p: &mut Params, hints: &mut Vec<String>) -> Value {
    let location = p.text("valueLocation").unwrap_or_default();
    if location.contains(['#', '*', '?', '|', '@', '\\']) {
        hints.push(format!("valueLocation {location}: write it as a JSON pointer, such as /queues/0/depth"));
    }
    let pointer = format!("/{}", location.replace('.', "/"));
    json!({"url": p.text("url"), "pointer": pointer, "auth": auth(p), "tls": p.tls()})
}

fn cron(p: &mut Params) -> Value {
    clean(json!({
        "timezone": p.text("timezone"),
        "start": p.text("start"),
        "end": p.text("end"),
        "replicas": p.number("desiredReplicas"),
    }))
}

fn external(p: &mut Params, hints: &mut Vec<String>) -> Value {
    let (address, tls) = (p.text("scalerAddress"), p.tls());
    for file in ["tlsCertFile", "tlsClientCert", "tlsClientKey", "caCert", "enableTLS"] {
        if p.text(file).is_some() {
            hints.push(format!("{file}: name a Secret in keda.tls"));
        }
    }
    json!({"scalerAddress": address, "scalerMetadata": p.take_all(), "tls": tls})
}
