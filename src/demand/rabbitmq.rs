//! Demand as a queue of a RabbitMQ.

#[cfg(feature = "rabbitmq")]
pub mod amqp;
pub mod management;
