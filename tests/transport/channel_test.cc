#include "transport/zmq/channel.h"

#include <atomic>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace splitee::transport {
namespace {

constexpr std::int64_t kPatienceUs = 30'000'000;

// A bound channel, and a socket connected to it that belongs to another thread.
struct Pair {
  Pair() {
    zmq::socket_t bound(context, zmq::socket_type::pair);
    bound.bind("inproc://channel");
    far.connect("inproc://channel");
    near = Channel(std::move(bound));
  }
  zmq::context_t context;
  zmq::socket_t far{context, zmq::socket_type::pair};
  Channel near;
};

Frames some_frames() {
  return encode({1, 0, 0}, Ping{});
}

}  // namespace

TEST_CASE("no message is slept over, however sending and receiving mix") {
  Pair pair;
  constexpr int kMessages = 100'000;
  std::atomic<bool> stop{false};
  // Sends all the time, and takes what it is sent.
  std::thread peer([&] {
    zmq::message_t taken;
    for (int sent = 0; sent < kMessages && !stop;) {
      if (pair.far.send(zmq::message_t(4), zmq::send_flags::dontwait)) ++sent;
      while (pair.far.recv(taken, zmq::recv_flags::dontwait)) {
      }
    }
  });
  int received_count = 0;
  Received received;
  Channel* const channels[] = {&pair.near};
  while (received_count < kMessages) {
    wait(channels, {}, kPatienceUs);
    // Nothing but what has been sent in between may leave it pending without a message.
    if (!pair.near.pending()) break;
    while (pair.near.receive(received)) ++received_count;
    pair.near.send({}, some_frames());
  }
  stop = true;
  peer.join();
  CHECK(received_count == kMessages);
}

TEST_CASE("a wait ends for a message, for another descriptor and when its time is over") {
  Pair pair;
  Channel* const channels[] = {&pair.near};
  Received received;
  while (pair.near.pending()) pair.near.receive(received);
  pollfd event{eventfd(0, EFD_NONBLOCK), POLLIN, 0};
  wait(channels, std::span(&event, 1), 1'000);
  CHECK_FALSE(pair.near.pending());
  CHECK(event.revents == 0);

  eventfd_write(event.fd, 1);
  wait(channels, std::span(&event, 1), kPatienceUs);
  CHECK_FALSE(pair.near.pending());
  CHECK(event.revents == POLLIN);

  eventfd_t count;
  eventfd_read(event.fd, &count);
  pair.far.send(zmq::message_t(4), zmq::send_flags::none);
  wait(channels, std::span(&event, 1), kPatienceUs);
  CHECK(pair.near.pending());
  CHECK(event.revents == 0);
  CHECK(pair.near.receive(received));
  CHECK_FALSE(pair.near.receive(received));
  CHECK_FALSE(pair.near.pending());

  // Sent, therefore pending: the wait does not sleep.
  CHECK(pair.near.send({}, some_frames()));
  CHECK(pair.near.pending());
  wait(channels, {}, kPatienceUs);
  close(event.fd);
}

}  // namespace splitee::transport
