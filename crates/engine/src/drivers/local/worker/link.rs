//! The worker's end of the channel: calls home until somebody who knows the secret answers.

use std::{fs, io, net::SocketAddr, time::Duration};

use tokio::{
    io::AsyncWriteExt,
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{interval, sleep, timeout},
};

use super::{Event, note};
use crate::drivers::local::{
    folder::HOME,
    wire::{self, Answer, Challenge, FromWorker, Lines, Question, Secret, ToWorker, Welcome},
};

/// Between two calls: the first pause, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// How long the server may take to answer.
const GREETING_TIME: Duration = Duration::from_secs(10);
/// How long the server may take to read what we write.
const WRITE_TIME: Duration = Duration::from_secs(60);

/// Calls home for ever.
/// A sign of life is sent every `alive`.
pub(super) async fn keep(secret: Secret, vm: String, alive: Duration, events: UnboundedSender<Event>) {
    let (mut pause, longest) = PAUSE;
    let mut problem = String::new();
    while !events.is_closed() {
        let called = timeout(GREETING_TIME, call(&secret, &vm)).await;
        let ended = match called.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok((lines, writer)) => {
                pause = PAUSE.0;
                let (out, says) = unbounded_channel();
                let _ = events.send(Event::Linked(out));
                let ended = talk(lines, writer, says, alive, &events).await;
                let _ = events.send(Event::Unlinked);
                ended
            }
            Err(error) => Err(error),
        };
        // The log of a worker without a server would else grow for ever.
        if let Err(error) = ended
            && error.to_string() != problem
        {
            problem = error.to_string();
            note(&format!("no server: {problem}"));
        }
        sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}

async fn call(secret: &Secret, vm: &str) -> io::Result<(Lines<OwnedReadHalf>, OwnedWriteHalf)> {
    let address: SocketAddr = fs::read_to_string(HOME)?.trim_end().parse().map_err(io::Error::other)?;
    if !address.ip().is_loopback() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "home is not on this host"));
    }
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (reader, mut writer) = stream.into_split();
    let mut lines = Lines::new(reader, wire::GREETING_MAX);
    let question: Question = lines.hear().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let worker_nonce = wire::nonce()?;
    let challenge =
        Challenge { secret, address, server_nonce: &question.nonce, worker_nonce: &worker_nonce, vm };
    let mac = challenge.proof("worker");
    wire::say(&mut writer, &Answer { vm: vm.to_owned(), nonce: worker_nonce.clone(), mac }).await?;
    let welcome: Welcome = lines.hear().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    if !challenge.holds("server", &welcome.mac) {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "who answered is not our server"));
    }
    Ok((lines.with_max(wire::LINE_MAX), writer))
}

async fn talk(
    mut lines: Lines<OwnedReadHalf>,
    mut writer: OwnedWriteHalf,
    mut says: UnboundedReceiver<Vec<u8>>,
    alive: Duration,
    events: &UnboundedSender<Event>,
) -> io::Result<()> {
    let mut ticks = interval(alive);
    let alive = wire::line(&FromWorker::Alive)?;
    ticks.tick().await; // the first is due at once, and hello says the same
    loop {
        let line = tokio::select! {
            message = lines.hear::<ToWorker>() => match message? {
                Some(message) => {
                    let _ = events.send(Event::Order(message));
                    continue;
                }
                None => return Ok(()),
            },
            line = says.recv() => match line {
                Some(line) => line,
                None => return Ok(()),
            },
            _ = ticks.tick() => alive.clone(),
        };
        timeout(WRITE_TIME, writer.write_all(&line)).await.map_err(io::Error::other)??;
    }
}
