//! What the schema cannot say of a template.

use super::Invalid;
use super::amount::{cores, mebibytes};
use crate::api::container::Containerizer;
use crate::api::template::{ResourceList, Template};
use crate::policy::resources::Resources;

/// What one replica uses, its ports counted.
pub(super) fn size(template: &Template) -> Result<Resources, Invalid> {
    let field = |name: &str| format!("spec.template.resources.{name}");
    let ResourceList { cpu, memory, disk, gpu } = &template.resources;
    let size = Resources {
        cpu: cores(&field("cpu"), cpu)?,
        memory: mebibytes(&field("memory"), memory)?,
        disk: disk.as_ref().map_or(Ok(0), |disk| mebibytes(&field("disk"), disk))?,
        gpu: gpu.unwrap_or(0),
        ports: i64::try_from(template.ports.len()).unwrap_or(i64::MAX),
    };
    if size.cpu == 0 && size.memory == 0 {
        let problem = "cpu and memory are both 0, so Mesos would refuse the task".to_owned();
        return Err(Invalid::Field { field: "spec.template.resources".to_owned(), problem });
    }
    Ok(size)
}

/// Each probe's port is one of the template's; and the executor that Mesos has for Docker makes one check of a task at most.
pub(super) fn probes(template: &Template) -> Result<(), Invalid> {
    let docker = template.image.is_some() && template.containerizer == Containerizer::Docker;
    if docker && template.readiness.is_some() && template.liveness.is_some() {
        let problem = "containerizer docker allows readiness or liveness, not both".to_owned();
        return Err(Invalid::Field { field: "spec.template.readiness".to_owned(), problem });
    }
    let liveness = template.liveness.as_ref().map(|liveness| &liveness.probe);
    for (name, probe) in [("readiness", template.readiness.as_ref()), ("liveness", liveness)] {
        let Some(probe) = probe.filter(|probe| probe.exec.is_none()) else { continue };
        if probe.port_among(&template.ports).is_none() {
            let kind = if probe.http.is_some() { "http" } else { "tcp" };
            let problem = "none of the template's ports has this name".to_owned();
            return Err(Invalid::Field { field: format!("spec.template.{name}.{kind}.port"), problem });
        }
    }
    Ok(())
}
