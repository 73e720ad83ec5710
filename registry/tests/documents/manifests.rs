//! The manifest and the unit file: whether they are well formed, and whether what they set is what the sidecar takes.

use std::{collections::BTreeMap, fs, process::Command};

use serde_json::{Value, json};

use crate::{
    settings::sidecar_names,
    support::{has, program, root, run},
};

/// A YAML document as a value; a key that stands twice is an error.
fn yaml(path: &str) -> Value {
    let text = fs::read_to_string(root().join(path)).unwrap();
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Whether a sidecar takes these settings: `doctor` says so in its first line, before it looks for anybody.
async fn is_taken(env: BTreeMap<String, String>) {
    let names = sidecar_names().await;
    let unknown: Vec<_> = env.keys().filter(|name| !names.contains(*name)).collect();
    assert!(unknown.is_empty(), "the sidecar does not know {unknown:?}");
    let (code, text, _) = run(Command::new(program("sidecar")).arg("doctor").envs(env)).await;
    assert_ne!(code, 64, "{text}");
    assert!(text.starts_with("ok      configuration: "), "{text}");
}

#[tokio::test]
async fn the_kubernetes_manifest_is_whole() {
    let manifest = yaml("docs/examples/kubernetes.yaml");
    assert_eq!((&manifest["apiVersion"], &manifest["kind"]), (&json!("apps/v1"), &json!("Deployment")));
    let pod = &manifest["spec"]["template"];
    assert_eq!(manifest["spec"]["selector"]["matchLabels"], pod["metadata"]["labels"]);
    let pod = &pod["spec"];
    let sidecar = &pod["initContainers"][0];
    let service = &pod["containers"][0];

    // A native sidecar, with no probe that asks about the registry.
    assert_eq!(sidecar["restartPolicy"], "Always");
    assert_eq!(sidecar["image"], "vertice-registry-sidecar:latest");
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        assert_eq!(sidecar[probe], Value::Null, "{probe}");
        let command = service[probe]["exec"].to_string();
        assert!(!command.contains("sidecar") && !command.contains("registry"), "{probe}");
    }
    let context = &sidecar["securityContext"];
    assert_eq!((&context["runAsUser"], &context["runAsNonRoot"]), (&json!(65532), &json!(true)));
    assert_eq!(context["readOnlyRootFilesystem"], json!(true));
    assert_eq!(context["allowPrivilegeEscalation"], json!(false));
    assert_eq!(context["capabilities"]["drop"], json!(["ALL"]));

    // The token: the volume that is mounted exists, and the file lies in it.
    let mount = &sidecar["volumeMounts"][0];
    let volume = &pod["volumes"][0];
    assert_eq!((&mount["name"], &mount["readOnly"]), (&volume["name"], &json!(true)));
    assert!(volume["secret"]["secretName"].is_string());

    let mut fields = BTreeMap::new();
    let mut env = BTreeMap::new();
    for variable in sidecar["env"].as_array().unwrap() {
        let name = variable["name"].as_str().unwrap().to_owned();
        if let Some(value) = variable["value"].as_str() {
            env.insert(name, value.to_owned());
        } else {
            let field = variable["valueFrom"]["fieldRef"]["fieldPath"].as_str();
            fields.insert(name.clone(), field.unwrap_or_else(|| panic!("{name} has no value")).to_owned());
        }
    }
    assert_eq!(fields["SERVICE_HOST"], "status.podIP");
    assert_eq!(fields["INSTANCE_ID"], "metadata.name");

    // The service's port and path, wherever they stand, are the ones that are registered.
    let port = &service["ports"][0];
    assert_eq!(port["containerPort"].to_string(), env["SERVICE_PORT"]);
    for probe in ["livenessProbe", "readinessProbe"] {
        assert_eq!(service[probe]["httpGet"]["port"], port["name"]);
        assert_eq!(service[probe]["httpGet"]["path"], env["SERVICE_HEALTH_ENDPOINT"].as_str());
    }
    assert_eq!(manifest["metadata"]["name"], env["SERVICE_NAME"].as_str());
    let token = env.insert("REGISTRY_TOKEN_FILE".into(), String::new()).unwrap();
    let secret = token.strip_prefix(mount["mountPath"].as_str().unwrap()).unwrap();
    assert_eq!(secret, "/token", "the key that the comment's command gives the secret");

    // As the kubelet fills it in. What is there for other variables alone is none of the sidecar's settings.
    let filled = |field: &str| match field {
        "status.podIP" => "10.244.1.17",
        "metadata.name" => "orders-7d4b9c6f5d-x2x7k",
        "spec.nodeName" => "node-1",
        other => panic!("{other}: what would it be?"),
    };
    for (name, field) in &fields {
        let reference = format!("$({name})");
        let mut used = false;
        for value in env.values_mut().filter(|value| value.contains(&reference)) {
            *value = value.replace(&reference, filled(field));
            used = true;
        }
        if !used {
            env.insert(name.clone(), filled(field).to_owned());
        }
    }
    assert!(env.values().all(|value| !value.contains("$(")), "{env:?}");
    // No network is asked: a name that cannot be.
    env.insert("REGISTRY_URL".into(), "http://127.0.0.1:1".into());
    is_taken(env).await;
}

/// The assignments of a unit file, by section.
fn unit(text: &str) -> BTreeMap<String, Vec<(String, String)>> {
    let mut sections: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    let mut section = None;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = Some(sections.entry(name.to_owned()).or_default());
        } else {
            let (name, value) = line.split_once('=').unwrap_or_else(|| panic!("no assignment: {line}"));
            section
                .as_mut()
                .expect("an assignment before any section")
                .push((name.to_owned(), value.to_owned()));
        }
    }
    sections
}

const UNIT: &str = "docs/examples/vertice-registry-sidecar.service";

#[tokio::test]
async fn the_unit_file_is_whole() {
    let text = fs::read_to_string(root().join(UNIT)).unwrap();
    let unit = unit(&text);
    let names: Vec<_> = unit.keys().map(String::as_str).collect();
    assert_eq!(names, ["Install", "Service", "Unit"]);
    let all = |name: &str| -> Vec<&str> {
        let pairs = unit["Service"].iter().filter(|(key, _)| key == name);
        pairs.map(|(_, value)| value.as_str()).collect()
    };
    let one = |name: &str| {
        let [value] = all(name)[..] else { panic!("{name} does not stand there once") };
        value
    };
    assert_eq!(one("DynamicUser"), "yes");
    assert_eq!(one("NoNewPrivileges"), "yes");
    assert_eq!(one("ProtectSystem"), "strict");
    assert_eq!(one("CapabilityBoundingSet"), "");
    // A wrong setting is not tried for ever, and what it is told to leave by is what it leaves politely on.
    assert_eq!((one("Restart"), one("RestartPreventExitStatus")), ("on-failure", "64"));
    assert_eq!(one("KillSignal"), "SIGTERM");
    let stop: u32 = one("TimeoutStopSec").parse().unwrap();
    assert!(stop > 5, "it needs 5 s to leave");
    assert!(one("ExecStart").ends_with("/sidecar"), "no arguments");

    // The credential that is loaded is the one that is read.
    let (credential, _) = one("LoadCredential").split_once(':').unwrap();
    let mut env = BTreeMap::new();
    for pair in all("Environment") {
        let (name, value) = pair.split_once('=').unwrap();
        env.insert(name.to_owned(), value.to_owned());
    }
    let file = env.insert("REGISTRY_TOKEN_FILE".into(), String::new());
    assert_eq!(file, Some(format!("%d/{credential}")));
    // What its comment says the environment file must hold at least.
    for (name, value) in [("SERVICE_NAME", "orders"), ("SERVICE_HOST", "127.0.0.1"), ("SERVICE_PORT", "8080")]
    {
        assert!(text.contains(name), "{name}");
        env.insert(name.into(), value.into());
    }
    env.insert("REGISTRY_URL".into(), "http://127.0.0.1:1".into());
    is_taken(env).await;
}

#[tokio::test]
async fn systemd_understands_the_unit_file() {
    if !has("systemd-analyze") {
        return;
    }
    // It wants the program to be there.
    let text = fs::read_to_string(root().join(UNIT)).unwrap();
    let here = program("sidecar").display().to_string();
    let text = text.replace("ExecStart=/usr/local/bin/sidecar", &format!("ExecStart={here}"));
    assert!(text.contains(&here));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vertice-registry-sidecar.service");
    fs::write(&path, text).unwrap();
    let (code, out, errors) = run(Command::new("systemd-analyze").arg("verify").arg(&path)).await;
    // What it does not know it only warns about, and goes on.
    assert_eq!((code, out.as_str(), errors.as_str()), (0, "", ""));
}
