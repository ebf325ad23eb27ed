//! A small external scaler, over tonic's server: it answers what it is told to, and counts its connections.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use microscaler::demand::keda::wire::{
    GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, MetricSpec, MetricValue, ScaledObjectRef,
};
use prost::Message;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::either::Either;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::server::Grpc;
use tonic::transport::server::{Connected, Server};
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

/// What the scaler answers.
#[derive(Clone)]
pub enum Answer {
    /// These metrics.
    Values(Vec<(&'static str, f64)>),
    /// A message that is no answer to the question.
    Garbage,
    Refused(Code, &'static str),
}

/// What it knows and has seen, across its restarts.
pub struct State {
    pub answer: Mutex<Answer>,
    /// Each change of it is told on the streams.
    pub active: watch::Sender<bool>,
    pub asked: Mutex<Vec<GetMetricsRequest>>,
    pub connections: AtomicUsize,
    pub streams: AtomicUsize,
}

impl State {
    pub fn of(values: Vec<(&'static str, f64)>) -> Arc<Self> {
        Arc::new(Self {
            answer: Mutex::new(Answer::Values(values)),
            active: watch::Sender::new(true),
            asked: Mutex::default(),
            connections: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
        })
    }

    pub fn answer(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    pub fn value(&self, value: f64) {
        self.answer(Answer::Values(vec![("depth", value)]));
    }

    fn values(&self) -> Result<Vec<(&'static str, f64)>, Status> {
        match self.answer.lock().unwrap().clone() {
            Answer::Values(values) => Ok(values),
            Answer::Garbage => Ok(Vec::new()),
            Answer::Refused(code, message) => Err(Status::new(code, message)),
        }
    }
}

/// A scaler that runs, with a runtime of its own: ending that ends its connections, too.
pub struct Scaler {
    pub address: SocketAddr,
    runtime: tokio::runtime::Runtime,
}

impl Scaler {
    pub fn start(state: &Arc<State>) -> Self {
        Self::start_at("127.0.0.1:0", state, None)
    }

    pub fn start_at(address: &str, state: &Arc<State>, tls: Option<ServerConfig>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(serve(listener, state.clone(), tls));
        Self { address, runtime }
    }

    pub fn end(self) {
        crate::https::end(self.runtime);
    }
}

async fn serve(listener: std::net::TcpListener, state: Arc<State>, tls: Option<ServerConfig>) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let acceptor = tls.map(|mut config| {
        config.alpn_protocols = vec![b"h2".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    });
    let seen = state.clone();
    let incoming = futures::stream::unfold((listener, acceptor), move |(listener, acceptor)| {
        let seen = seen.clone();
        async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let io = match &acceptor {
                    Some(acceptor) => acceptor.accept(stream).await.map(Either::Right),
                    None => Ok(Either::Left(stream)),
                };
                if let Ok(io) = io {
                    seen.connections.fetch_add(1, Ordering::SeqCst);
                    return Some((Ok::<_, io::Error>(Io(io)), (listener, acceptor)));
                }
            }
        }
    });
    let service = tower::service_fn(move |request| answer(state.clone(), request).map(Ok::<_, Infallible>));
    Server::builder().serve_with_incoming(service, incoming.boxed()).await.unwrap();
}

/// Each call by its name.
async fn answer(state: Arc<State>, request: Request<Body>) -> Response<Body> {
    match request.uri().path().strip_prefix("/externalscaler.ExternalScaler/") {
        Some("IsActive") => {
            let active = *state.active.borrow();
            unary(request, move |_: ScaledObjectRef| Ok(IsActiveResponse { result: active })).await
        }
        Some("GetMetricSpec") => {
            let spec =
                |(name, _): (&str, f64)| MetricSpec { metric_name: name.to_owned(), target_size: 5, target_size_float: 0.0 };
            let specs = move |_: ScaledObjectRef| {
                Ok(GetMetricSpecResponse { metric_specs: state.values()?.into_iter().map(spec).collect() })
            };
            unary(request, specs).await
        }
        Some("GetMetrics") if matches!(*state.answer.lock().unwrap(), Answer::Garbage) => {
            unary(request, |_: GetMetricsRequest| Ok(Garbage { number: 7 })).await
        }
        Some("GetMetrics") => unary(request, move |question| metrics(&state, question)).await,
        Some("StreamIsActive") => {
            let open = move |_: tonic::Request<ScaledObjectRef>| std::future::ready(Ok(tonic::Response::new(told(&state))));
            Grpc::new(ProstCodec::<IsActiveResponse, ScaledObjectRef>::default())
                .server_streaming(tower::service_fn(open), request)
                .await
        }
        _ => Status::unimplemented("no such call").into_http(),
    }
}

/// No answer to anything: where a list of messages is expected, it has a number.
#[derive(Clone, PartialEq, Message)]
struct Garbage {
    #[prost(int64, tag = "1")]
    number: i64,
}

fn metrics(state: &State, question: GetMetricsRequest) -> Result<GetMetricsResponse, Status> {
    let name = question.metric_name.clone();
    state.asked.lock().unwrap().push(question);
    let value =
        |(name, value): (&str, f64)| MetricValue { metric_name: name.to_owned(), metric_value: 0, metric_value_float: value };
    let values = state.values()?.into_iter().filter(|(known, _)| *known == name).map(value);
    Ok(GetMetricsResponse { metric_values: values.collect() })
}

/// What is so at first, and each change.
fn told(state: &State) -> BoxStream<'static, Result<IsActiveResponse, Status>> {
    state.streams.fetch_add(1, Ordering::SeqCst);
    let mut active = state.active.subscribe();
    active.mark_changed();
    let next = |mut active: watch::Receiver<bool>| async move {
        active.changed().await.ok()?;
        let result = *active.borrow_and_update();
        Some((Ok(IsActiveResponse { result }), active))
    };
    futures::stream::unfold(active, next).boxed()
}

async fn unary<Q, A>(
    request: Request<Body>,
    reply: impl FnOnce(Q) -> Result<A, Status> + Send + Clone + 'static,
) -> Response<Body>
where
    Q: Message + Default + Send + Sync + 'static,
    A: Message + Send + Sync + 'static,
{
    let service =
        tower::service_fn(move |request: tonic::Request<Q>| -> BoxFuture<'static, Result<tonic::Response<A>, Status>> {
            std::future::ready((reply.clone())(request.into_inner()).map(tonic::Response::new)).boxed()
        });
    Grpc::new(ProstCodec::<A, Q>::default()).unary(service, request).await
}

/// A connection, of which tonic wants to know who is at its other end.
struct Io(Either<TcpStream, tokio_rustls::server::TlsStream<TcpStream>>);

impl Connected for Io {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Io {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// What a question said of itself, in short.
pub fn metadata(question: &GetMetricsRequest) -> (String, String, HashMap<String, String>) {
    let ScaledObjectRef { name, namespace, scaler_metadata } = question.scaled_object_ref.clone().unwrap();
    (namespace, name, scaler_metadata)
}
