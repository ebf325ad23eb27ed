//! Queues asked over AMQP, by declaring them passively: that changes nothing, and answers at once.

use std::sync::{Arc, Mutex, PoisonError};

use lapin::options::QueueDeclareOptions;
use lapin::tcp::{AMQPUriTcpExt as _, RustlsConnector};
use lapin::types::FieldTable;
use lapin::uri::{AMQPAuthority, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{Channel, Connection, ConnectionProperties, ErrorKind, Queue};

use crate::api::demand::{QueueMode, RabbitMq};
use crate::demand::context::Context;
use crate::demand::link::{Link, Trouble};
use crate::demand::poll::Query;
use crate::demand::tls::Material;
use crate::demand::web::root_cause;

const PORT: u16 = 5672;

/// A queue.
pub struct Declared {
    context: Context,
    spec: RabbitMq,
    uri: AMQPUri,
    link: Arc<Link<Arc<Connection>>>,
    /// A refusal costs the channel, and so there is one for each metric, with the connection that it is on.
    channel: Mutex<Option<(Arc<Connection>, Channel)>>,
}

/// What lets us in, as it reads now.
#[derive(Hash)]
struct Credentials {
    password: String,
    tls: Option<Material>,
}

impl Declared {
    /// # Errors
    /// In words, when the address is none.
    pub fn new(context: Context, spec: &RabbitMq) -> Result<Self, String> {
        let uri = uri(spec)?;
        let server = (&spec.host, &spec.vhost_name, &spec.username, &spec.password, &spec.tls);
        let link = context.link(&context.servers.rabbitmq, &server);
        Ok(Self { context, spec: spec.clone(), uri, link, channel: Mutex::default() })
    }

    async fn credentials(&self) -> Result<Credentials, String> {
        let is_secure = self.spec.host.starts_with("amqps");
        let tls = if is_secure { Some(self.context.tls(self.spec.tls.as_ref()).await?) } else { None };
        Ok(Credentials { password: self.context.secret(&self.spec.password).await?, tls })
    }

    async fn connect(&self, credentials: &Credentials) -> Result<Arc<Connection>, String> {
        let mut uri = self.uri.clone();
        uri.authority.userinfo.password.clone_from(&credentials.password);
        let connector = match &credentials.tls {
            Some(material) => Some(RustlsConnector::from(material.config()?)),
            None => None,
        };
        let connect = async move |uri: AMQPUri, runtime| {
            let stream = uri.connect_async(&runtime).await?;
            Ok(match &connector {
                Some(connector) => stream.into_rustls(connector, &uri.authority.host).await?,
                None => stream,
            })
        };
        let runtime = lapin::runtime::default_runtime().map_err(|error| self.words(&error))?;
        let properties = ConnectionProperties::default().with_connection_name("microscaler".into());
        let connection = Connection::connector(uri, runtime, connect, properties).await;
        connection.map(Arc::new).map_err(|error| self.words(&error))
    }

    async fn declare(&self, connection: Arc<Connection>) -> Result<Queue, Trouble> {
        let kept = self.channel.lock().unwrap_or_else(PoisonError::into_inner).take();
        let kept = kept.filter(|(of, channel)| Arc::ptr_eq(of, &connection) && channel.status().connected());
        let channel = match kept {
            Some((_, channel)) => channel,
            None => connection.create_channel().await.map_err(|error| self.trouble(&error))?,
        };
        let passively = QueueDeclareOptions { passive: true, ..Default::default() };
        let declared = channel.queue_declare(self.spec.queue_name.as_str().into(), passively, FieldTable::default()).await;
        *self.channel.lock().unwrap_or_else(PoisonError::into_inner) = Some((connection, channel));
        declared.map_err(|error| self.trouble(&error))
    }

    fn trouble(&self, error: &lapin::Error) -> Trouble {
        let why = self.words(error);
        if error.is_amqp_soft_error() { Trouble::Answer(why) } else { Trouble::Connection(why) }
    }

    fn words(&self, error: &lapin::Error) -> String {
        let why = match error.kind() {
            ErrorKind::IOError(error) => root_cause(&**error),
            ErrorKind::ProtocolError(error) if self.context.secrets.are_discreet() => {
                format!("refused with code {}", error.get_id())
            }
            ErrorKind::ProtocolError(error) => error.get_message().to_string(),
            _ => error.to_string(),
        };
        format!("{}: queue {}: {why}", self.spec.host, self.spec.queue_name)
    }
}

impl Query for Declared {
    async fn ask(&self) -> Result<f64, String> {
        let credentials = self.credentials().await?;
        let queue = self.link.ask(&credentials, || self.connect(&credentials), |connection| self.declare(connection)).await?;
        Ok(f64::from(match self.spec.mode {
            QueueMode::Consumers => queue.consumer_count(),
            QueueMode::QueueLength | QueueMode::MessageRate => queue.message_count(),
        }))
    }
}

/// Without the password. TLS is not lapin's to speak.
fn uri(spec: &RabbitMq) -> Result<AMQPUri, String> {
    let bad = |problem: String| format!("{} is not an address: {problem}", spec.host);
    let url = url::Url::parse(&spec.host).map_err(|error| bad(error.to_string()))?;
    let host = url.host_str().ok_or_else(|| bad("no host".to_owned()))?.to_owned();
    let userinfo = AMQPUserInfo { username: spec.username.clone(), password: String::new() };
    let authority = AMQPAuthority { userinfo, host, port: url.port().unwrap_or(PORT) };
    Ok(AMQPUri { scheme: AMQPScheme::AMQP, authority, vhost: spec.vhost_name.clone(), ..AMQPUri::default() })
}
