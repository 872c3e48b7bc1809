//! Several requests that leave together, and the way back to each caller.

use std::sync::Arc;

use bb8_redis::redis::{self, Pipeline};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Connected;
use super::delivery::{Delivered, Returned, deliver_one};
use super::queue::Queued;
use super::transit::{Flight, Sending, unless_gone};
use crate::request::{Answers, Head, Payload, Request};

/// Who waits for one request of a message.
#[derive(Debug)]
struct Member {
    head: Head,
    reply: oneshot::Sender<Delivered>,
}

/// A message: commands of several callers, or the pipeline of one.
#[derive(Debug)]
pub(super) struct Message {
    sending: Sending<Pipeline>,
    members: Vec<Member>,
    is_pipeline: bool,
    number: u64,
    flight: Flight,
}

impl Message {
    pub(super) fn depart(flight: Flight, connected: Arc<Connected>, requests: Vec<Queued>) -> Self {
        let number = connected.number;
        let mut pipeline = Pipeline::with_capacity(requests.len());
        let mut members = Vec::with_capacity(requests.len());
        let mut is_pipeline = false;
        for Queued { request, reply, .. } in requests {
            match request.payload {
                Payload::One(cmd) => {
                    pipeline.add_command(cmd);
                }
                Payload::Many(own) => {
                    // A pipeline travels alone, so nothing was added before it.
                    pipeline = own;
                    is_pipeline = true;
                }
            }
            members.push(Member { head: request.head, reply });
        }
        let sending = Sending::start(async move {
            let mut handle = connected.handle.clone();
            let sent = handle.send_packed_commands(&pipeline, 0, pipeline.len());
            let answers = unless_gone(&connected, sent).await.map(Answers::Many);
            (answers, pipeline)
        });
        // Whoever sends it looks for more afterwards in any case.
        let _others_wait = flight.boarded();
        Self { sending, members, is_pipeline, number, flight }
    }

    pub(super) async fn deliver(mut self) {
        let (result, pipeline) = self.sending.outcome().await;
        // A caller that is gone needs no answer: what cannot be handed out is dropped.
        match result {
            Ok(answers) => {
                self.flight.lane().answered(Instant::now());
                self.hand_out(answers, &pipeline);
            }
            Err(cause) => self.give_back(pipeline, &cause),
        }
        // Those who got their answers send their next requests before the next message leaves, so
        // that these share it.
        tokio::task::yield_now().await;
        drop(self.flight);
    }

    fn hand_out(&mut self, answers: Answers, pipeline: &Pipeline) {
        let number = self.number;
        match answers {
            Answers::Many(values) if !self.is_pipeline => {
                let answered = self.members.drain(..).zip(values).zip(pipeline.cmd_iter());
                for ((Member { head, reply }, value), cmd) in answered {
                    let request = || Request { head, payload: Payload::One(cmd.clone()) };
                    let _gone = reply.send(deliver_one(value, number, request));
                }
            }
            answers => {
                if let Some(member) = self.members.pop() {
                    let _gone = member.reply.send(Ok((answers, number)));
                }
            }
        }
    }

    fn give_back(&mut self, pipeline: Pipeline, cause: &redis::RedisError) {
        let payloads: Vec<_> = if self.is_pipeline {
            vec![Payload::Many(pipeline)]
        } else {
            pipeline.cmd_iter().cloned().map(Payload::One).collect()
        };
        for (Member { head, reply }, payload) in self.members.drain(..).zip(payloads) {
            let request = Box::new(Request { head, payload });
            let _gone = reply.send(Err(Returned::Lost(request, self.number, cause.clone())));
        }
    }
}
