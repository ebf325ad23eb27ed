//! Apache Mesos, driven as a framework of its own over the v1 scheduler HTTP API.
