//! Which of the places of a container runtime is asked. One that has died leaves its socket behind: only who answers
//! counts.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use super::engine::{Engine, Result};

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Places {
    /// The best first.
    all: Arc<[PathBuf]>,
    /// Where somebody answered last.
    answered: Arc<Mutex<Option<PathBuf>>>,
}

impl Places {
    pub(super) fn new(all: Vec<PathBuf>) -> Self {
        Self { all: all.into(), answered: Arc::default() }
    }

    pub(super) fn has_socket(&self) -> bool {
        self.all.iter().any(|place| place.exists())
    }

    pub(super) async fn first_that_answers(&self) -> Result<Engine> {
        self.connect(there(&self.all)).await
    }

    /// Before the one that is asked: it may have been down for a moment only.
    pub(super) async fn better_that_answers(&self) -> Option<Engine> {
        let better = there(self.better());
        self.connect(better).await.ok()
    }

    /// For orders: whoever tells of the containers is to act on them. Another one does not know them.
    pub(super) async fn the_one_asked(&self) -> Result<Engine> {
        match self.answered() {
            Some(place) => Engine::connect(&place).await,
            None => self.first_that_answers().await,
        }
    }

    async fn connect(&self, places: Vec<PathBuf>) -> Result<Engine> {
        let connect = |place: PathBuf| async move { Engine::connect(&place).await };
        let (place, engine) = first_of(places, connect).await?;
        self.remember(place);
        Ok(engine)
    }

    fn better(&self) -> &[PathBuf] {
        let asked = self.answered();
        let number = self.all.iter().position(|place| Some(place) == asked.as_ref());
        self.all.get(..number.unwrap_or(0)).unwrap_or_default()
    }

    fn answered(&self) -> Option<PathBuf> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn remember(&self, place: PathBuf) {
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = Some(place);
    }
}

fn there(places: &[PathBuf]) -> Vec<PathBuf> {
    places.iter().filter(|place| place.exists()).cloned().collect()
}

/// Where nobody answers: what each of them said.
async fn first_of<T, F>(places: Vec<PathBuf>, connect: impl Fn(PathBuf) -> F) -> Result<(PathBuf, T)>
where
    F: Future<Output = Result<T>>,
{
    let mut said = Vec::new();
    for place in places {
        match connect(place.clone()).await {
            Ok(answer) => return Ok((place, answer)),
            Err(words) => said.push(words),
        }
    }
    let nobody = || "no container runtime's socket is there".to_owned();
    Err(if said.is_empty() { nobody() } else { said.join("; ") })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::net::UnixListener};

    use tokio::net::UnixStream;

    use super::*;

    async fn chosen(places: &Places) -> Result<PathBuf> {
        let connect = |place: PathBuf| async move {
            UnixStream::connect(&place).await.map_err(|error| format!("{}: {error}", place.display()))
        };
        first_of(there(&places.all), connect).await.map(|(place, _)| place)
    }

    fn paths(name: &str) -> [PathBuf; 3] {
        let dir = std::env::temp_dir().join(format!("healer-cri-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        ["dockerd", "containerd", "crio"].map(|name| dir.join(name))
    }

    #[tokio::test]
    async fn a_dead_runtimes_socket_does_not_hide_one_that_answers() {
        let [dead, live, none] = paths("dead");
        drop(UnixListener::bind(&dead).unwrap());
        let places = Places::new(vec![dead.clone(), live.clone(), none]);
        let said = chosen(&places).await.unwrap_err();
        assert!(said.contains(&dead.display().to_string()), "{said}");
        assert!(!said.contains(&live.display().to_string()), "{said}");
        let listener = UnixListener::bind(&live).unwrap();
        assert_eq!(chosen(&places).await, Ok(live));
        drop(listener);
        fs::remove_dir_all(dead.parent().unwrap()).unwrap();
    }

    #[tokio::test]
    async fn of_two_that_answer_the_first_is_asked() {
        let [first, second, none] = paths("two");
        let listeners = [&first, &second].map(|path| UnixListener::bind(path).unwrap());
        let places = Places::new(vec![none, first.clone(), second]);
        assert_eq!(chosen(&places).await, Ok(first.clone()));
        drop(listeners);
        fs::remove_dir_all(first.parent().unwrap()).unwrap();
    }

    #[test]
    fn only_who_stands_before_the_one_asked_is_better() {
        let [first, second, third] = ["/first", "/second", "/third"].map(PathBuf::from);
        let places = Places::new(vec![first.clone(), second.clone(), third]);
        assert!(places.better().is_empty(), "nobody is asked yet");
        places.remember(second);
        assert_eq!(places.better(), core::slice::from_ref(&first));
        places.remember(first);
        assert!(places.better().is_empty());
    }
}
