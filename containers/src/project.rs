use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Container, Finished, run};

/// A compose project. When this value is dropped, its containers, networks and volumes are removed.
#[derive(Debug)]
pub struct Project {
    name: String,
    directory: PathBuf,
    file: PathBuf,
    environment: Vec<(String, String)>,
}

/// The program that is compose: `docker compose`, or what COMPOSE says.
pub fn compose() -> Vec<String> {
    let words = std::env::var("COMPOSE").unwrap_or_else(|_| "docker compose".to_owned());
    words.split_whitespace().map(str::to_owned).collect()
}

impl Project {
    /// A project of one file; nothing is started yet.
    pub fn new(name: String, file: &Path, environment: Vec<(String, String)>) -> Self {
        let directory = file.parent().map_or_else(PathBuf::new, Path::to_owned);
        Self { name, directory, file: file.to_owned(), environment }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its file lies.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Runs compose, which may fail.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn try_compose(&self, arguments: &[&str]) -> Finished {
        let mut program = compose();
        let file = self.file.to_string_lossy().into_owned();
        program.extend(["-p", &self.name, "-f", &file].map(str::to_owned));
        program.extend(arguments.iter().map(|word| (*word).to_owned()));
        run(&program, &self.directory, &self.environment).await
    }

    /// Runs compose and gives what it printed.
    ///
    /// # Panics
    /// When it fails.
    pub async fn compose(&self, arguments: &[&str]) -> String {
        let finished = self.try_compose(arguments).await;
        assert!(finished.good(), "{}: compose {}: {finished:?}", self.name, arguments.join(" "));
        finished.stdout
    }

    /// `compose up -d`.
    ///
    /// # Panics
    /// When it fails.
    pub async fn up(&self) {
        self.compose(&["up", "-d"]).await;
    }

    /// Its containers, also those that do not run.
    ///
    /// # Panics
    /// When docker fails.
    pub async fn containers(&self) -> Vec<Container> {
        self.listed(&[]).await
    }

    /// The one container of a service.
    ///
    /// # Panics
    /// When there is another number of them.
    pub async fn container(&self, service: &str) -> Container {
        let mut found = self.of(service).await;
        assert_eq!(found.len(), 1, "containers of {service} in {}: {found:?}", self.name);
        found.remove(0)
    }

    /// The containers of a service.
    ///
    /// # Panics
    /// When docker fails.
    pub async fn of(&self, service: &str) -> Vec<Container> {
        self.listed(&["--filter", &format!("label=com.docker.compose.service={service}")]).await
    }

    async fn listed(&self, filter: &[&str]) -> Vec<Container> {
        let project = label(&self.name);
        let mut arguments = vec!["ps", "--all", "--format", "{{.Names}}", "--filter", &project];
        arguments.extend(filter);
        let names = crate::docker(&arguments).await;
        names.lines().map(Container::named).collect()
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

fn label(project: &str) -> String {
    format!("label=com.docker.compose.project={project}")
}

/// Removes what belongs to a project, and nothing else. What cannot be removed is left to scripts/test-containers.
pub fn remove(project: &str) {
    let filter = label(project);
    let kinds: [(&[&str], &[&str]); 3] = [
        (&["ps", "--all", "--quiet"], &["rm", "--force", "--volumes"]),
        (&["network", "ls", "--quiet"], &["network", "rm"]),
        (&["volume", "ls", "--quiet"], &["volume", "rm"]),
    ];
    for (list, remove) in kinds {
        let Ok(found) = Command::new("docker").args(list).args(["--filter", &filter]).output() else {
            continue;
        };
        let found = String::from_utf8_lossy(&found.stdout).into_owned();
        if found.trim().is_empty() {
            continue;
        }
        let _ = Command::new("docker").args(remove).args(found.split_whitespace()).output();
    }
}
