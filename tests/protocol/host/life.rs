//! A life's turns: frames, timers, connections.

use super::*;

impl Life {
    /// Takes a frame. Replies are handed on whatever connection they come by: what is not asked for must find nobody.
    pub fn receive(&mut self, site: &mut Site, world: &mut World, packet: &Packet) {
        let frame = decode_frame(&packet.bytes).expect("agents write frames that agents can read");
        assert_eq!(host_of(frame.stamp.sender), packet.from);
        if let Some(connection) = self.connections.get_mut(&packet.connection) {
            connection.heard_us = world.now_us;
        }
        if frame.stamp.counter > self.node.counter() && world.sabotage != Sabotage::StaleCounter {
            self.handle(site, world, Input::Counter(frame.stamp.counter));
        }
        for message in frame.requests {
            self.take_request(site, world, packet, message.nonce, message.body);
        }
        for message in frame.replies {
            if message.nonce < HEARTBEAT_NONCES {
                self.take_heartbeat_reply(site, world, packet.connection, &message.body);
            } else {
                let nonce = match world.sabotage {
                    Sabotage::CrossedReplies => world.observer.crossed(site.host, message.nonce),
                    _ => message.nonce,
                };
                let from = id_of(packet.from);
                self.handle(site, world, Input::Reply { from, nonce, reply: message.body });
            }
        }
        self.end_turn(site, world);
    }

    fn take_request(&mut self, site: &mut Site, world: &mut World, packet: &Packet, nonce: u64, body: PeerRequest) {
        let origin = Origin::Peer { peer: packet.from, connection: packet.connection, nonce };
        match body {
            PeerRequest::Paxos(request) => self.submit(site, world, origin, Job::Paxos(request)),
            PeerRequest::List { prefix, after } => self.submit(site, world, origin, Job::List { prefix, after }),
            PeerRequest::Bound(entries) => self.handle(site, world, Input::Bound(entries)),
            PeerRequest::Heartbeat { sequence, .. } => {
                let asked = self.outgoing.get(&packet.from).and_then(|id| self.connections.get(id));
                if asked.is_some_and(|c| !c.up) {
                    self.send_heartbeat(packet.from);
                }
                let reply = PeerReply::Heartbeat { sequence, acknowledged: true };
                self.reply(packet.from, packet.connection, nonce, &reply);
            }
            PeerRequest::Unknown(kind) => panic!("agents of one version know each other's kinds, and not {kind}"),
        }
    }

    fn take_heartbeat_reply(&mut self, site: &mut Site, world: &mut World, connection: u64, reply: &PeerReply) {
        assert!(matches!(reply, PeerReply::Heartbeat { acknowledged: true, .. }), "{reply:?}");
        let Some(connection) = self.connections.get_mut(&connection) else { return };
        if !connection.up {
            connection.up = true;
            let peer = id_of(connection.peer);
            self.handle(site, world, Input::PeerUp(peer));
        }
    }

    fn send_heartbeat(&mut self, peer: usize) {
        self.heartbeats += 1;
        let sequence = self.heartbeats;
        let request =
            PeerRequest::Heartbeat { sequence, incarnation: 1, known: Vec::new(), stores: Vec::new(), formed: true };
        if let Some(connection) = self.outgoing.get(&peer) {
            self.pending.entry((peer, *connection)).or_default().push(pack_request(sequence, &request));
        }
    }

    /// A connection stands. Its dialler asks on it.
    pub fn connect(&mut self, site: &mut Site, world: &mut World, id: u64, peer: usize, asks: bool, counter: u64) {
        if !asks {
            self.connections.retain(|_, c| c.asks || c.peer != peer);
        }
        self.connections.insert(id, Connection { peer, asks, up: false, heard_us: world.now_us });
        if counter > self.node.counter() && world.sabotage != Sabotage::StaleCounter {
            self.handle(site, world, Input::Counter(counter));
        }
        if asks {
            if let Some(old) = self.outgoing.insert(peer, id) {
                self.close(site, world, old);
                self.outgoing.insert(peer, id);
            }
            if world.is_scripted() {
                self.handle(site, world, Input::PeerUp(id_of(peer)));
            } else {
                self.send_heartbeat(peer);
            }
        }
        self.end_turn(site, world);
    }

    /// A connection is gone.
    pub fn close(&mut self, site: &mut Site, world: &mut World, id: u64) {
        let Some(connection) = self.connections.remove(&id) else { return };
        if !connection.asks {
            return;
        }
        if self.outgoing.get(&connection.peer) == Some(&id) {
            self.outgoing.remove(&connection.peer);
        }
        if connection.up || world.is_scripted() {
            self.handle(site, world, Input::PeerDown(id_of(connection.peer)));
        }
    }

    /// Ends the connection on which a peer is asked.
    pub fn hang_up(&mut self, site: &mut Site, world: &mut World, peer: usize) {
        if let Some(id) = self.outgoing.get(&peer).copied() {
            self.close(site, world, id);
            self.end_turn(site, world);
        }
    }

    /// The connections with a peer.
    pub fn connections_with(&self, peer: usize) -> Vec<u64> {
        self.connections.iter().filter(|(_, c)| c.peer == peer).map(|(id, _)| *id).collect()
    }

    pub fn is_dialling(&self, peer: usize) -> bool {
        self.outgoing.contains_key(&peer)
    }

    /// A timer may be due.
    pub fn wake(&mut self, site: &mut Site, world: &mut World) {
        if self.wake_us.is_some_and(|at| at <= world.now_us) {
            self.wake_us = None;
        }
        self.handle(site, world, Input::Tick);
        if !world.is_scripted() && world.now_us >= self.next_heartbeat_us {
            self.next_heartbeat_us = world.now_us + HEARTBEAT_US;
            self.beat(site, world);
        }
        self.end_turn(site, world);
    }

    fn beat(&mut self, site: &mut Site, world: &mut World) {
        let silent: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, c)| world.now_us.saturating_sub(c.heard_us) > PEER_SILENCE_US)
            .map(|(id, _)| *id)
            .collect();
        for id in silent {
            self.close(site, world, id);
        }
        for peer in (0..site.hosts).filter(|p| *p != site.host) {
            if self.outgoing.contains_key(&peer) {
                self.send_heartbeat(peer);
            } else {
                let after_us = world.rng.between(100, 50_000);
                world.schedule(after_us, Event::Dial { host: site.host, life: self.number, to: peer });
            }
        }
        if std::mem::take(&mut self.retry_raise) {
            self.handle(site, world, Input::Raised(self.bound));
        }
    }

    /// Sends what the turn has to say, under the stamp of its end, and sees to the next timer.
    pub fn end_turn(&mut self, site: &mut Site, world: &mut World) {
        let position = Position { life: self.number, commit: self.commit };
        let stamp = Stamp { epoch: 1, sender: id_of(site.host), counter: self.node.counter(), position };
        for ((to, connection), messages) in std::mem::take(&mut self.pending) {
            // A script picks single messages.
            let per_frame = if world.is_scripted() { 1 } else { messages.len() };
            for some in messages.chunks(per_frame) {
                world.send(Packet { from: site.host, to, connection, bytes: encode_frame(&stamp, some) });
            }
        }
        if world.is_scripted() {
            return;
        }
        let node_us = self.node.next_wakeup().unwrap_or(u64::MAX).saturating_sub(site.mono_offset_us());
        let at = node_us.min(self.next_heartbeat_us).max(world.now_us);
        if self.wake_us.is_none_or(|w| w > at) {
            self.wake_us = Some(at);
            world.schedule(at - world.now_us, Event::Wake { host: site.host, life: self.number });
        }
    }

    /// When the node wants to be woken, by the time of the simulation.
    pub fn next_wakeup(&self, site: &Site) -> Option<u64> {
        self.node.next_wakeup().map(|at| at.saturating_sub(site.mono_offset_us()))
    }
}
