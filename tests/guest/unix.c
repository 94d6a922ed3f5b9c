/* Unix sockets: streams, datagrams, sequenced packets, descriptors, credentials, names. */
#include "t.h"

static struct sockaddr_un name_of(const char *path, socklen_t *n) {
  struct sockaddr_un a = {.sun_family = AF_UNIX};
  strcpy(a.sun_path, path);
  *n = offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1;
  return a;
}
static struct sockaddr_un abstract(const char *name, socklen_t *n) {
  struct sockaddr_un a = {.sun_family = AF_UNIX};
  snprintf(a.sun_path + 1, sizeof a.sun_path - 1, "%s.%d", name, getpid());
  *n = offsetof(struct sockaddr_un, sun_path) + 1 + strlen(a.sun_path + 1);
  return a;
}
static int listener(int kind, const char *path) {
  socklen_t n;
  struct sockaddr_un a = name_of(path, &n);
  int s = OK(socket(AF_UNIX, kind, 0));
  OK(bind(s, (void *)&a, n));
  OK(listen(s, 5));
  return s;
}
static int connected(int kind, const char *path) {
  socklen_t n;
  struct sockaddr_un a = name_of(path, &n);
  int s = OK(socket(AF_UNIX, kind, 0));
  OK(connect(s, (void *)&a, n));
  return s;
}

TEST(stream_pair) {
  int s[2];
  OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
  EQ(send(s[0], "hello", 5, 0), 5);
  EQ(send(s[0], " you", 4, 0), 4);
  char b[16] = {0};
  EQ(recv(s[1], b, 3, MSG_PEEK), 3);
  EQ(read(s[1], b, 16), 9);
  STREQ(b, "hello you");
  ERR(recv(s[1], b, 1, MSG_DONTWAIT), EAGAIN);
  OK(close(s[0]));
  EQ(read(s[1], b, 1), 0);
  signal(SIGPIPE, SIG_IGN);
  ERR(write(s[1], "x", 1), EPIPE);
}
TEST(shutdown_halves) {
  int s[2];
  OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
  EQ(write(s[0], "x", 1), 1);
  OK(shutdown(s[0], SHUT_WR));
  char b;
  EQ(read(s[1], &b, 1), 1);
  EQ(read(s[1], &b, 1), 0);
  EQ(write(s[1], "y", 1), 1);
  EQ(read(s[0], &b, 1), 1);
  ERR(send(s[0], "z", 1, MSG_NOSIGNAL), EPIPE);
  struct pollfd p = {s[1], POLLIN | POLLRDHUP, 0};
  EQ(poll(&p, 1, 0), 1);
  EQ(p.revents, POLLIN | POLLRDHUP);
  ERR(shutdown(s[0], 9), EINVAL);
}
TEST(listen_accept) {
  t_in_folder();
  int l = listener(SOCK_STREAM, "sock");
  pid_t c = CHILD({
    int s = connected(SOCK_STREAM, "sock");
    EQ(write(s, "ping", 4), 4);
    char b[8];
    EQ(read(s, b, 8), 4);
    CHECK(!memcmp(b, "pong", 4));
  });
  struct sockaddr_un a;
  socklen_t n = sizeof a;
  int s = OK(accept(l, (void *)&a, &n));
  EQ(n, 2); /* the peer has no name */
  char b[8];
  EQ(read(s, b, 8), 4);
  EQ(write(s, "pong", 4), 4);
  JOIN(c);
  n = sizeof a;
  OK(getsockname(s, (void *)&a, &n));
  STREQ(a.sun_path, "sock");
  struct stat st;
  OK(stat("sock", &st));
  CHECK(S_ISSOCK(st.st_mode));
  ERR(open("sock", O_RDWR), ENXIO);
}
TEST(connect_errors) {
  t_in_folder();
  socklen_t n;
  struct sockaddr_un a = name_of("none", &n);
  int s = OK(socket(AF_UNIX, SOCK_STREAM, 0));
  ERR(connect(s, (void *)&a, n), ENOENT);
  t_write_file("none", "");
  ERR(connect(s, (void *)&a, n), ECONNREFUSED);
  ERR(bind(s, (void *)&a, n), EADDRINUSE);
  int l = listener(SOCK_STREAM, "l");
  OK(close(l));
  a = name_of("l", &n);
  ERR(connect(s, (void *)&a, n), ECONNREFUSED);
  ERR(send(s, "x", 1, MSG_NOSIGNAL), ENOTCONN);
  char b;
  ERR(recv(s, &b, 1, 0), EINVAL);
  ERR(listen(s, 1), EINVAL);
  ERR(accept(s, 0, 0), EINVAL);
  a.sun_family = AF_INET;
  ERR(connect(s, (void *)&a, n), EINVAL);
  ERR(socket(AF_UNIX, 6, 0), ESOCKTNOSUPPORT);
  ERR(socket(999, SOCK_STREAM, 0), EAFNOSUPPORT);
}
TEST(backlog) {
  t_in_folder();
  int l = listener(SOCK_STREAM, "l");
  OK(listen(l, 1));
  OK(fcntl(l, F_SETFL, O_NONBLOCK));
  ERR(accept(l, 0, 0), EAGAIN);
  socklen_t n;
  struct sockaddr_un a = name_of("l", &n);
  int s[5], ok = 0;
  for (int i = 0; i < 5; i++) {
    s[i] = OK(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
    if (connect(s[i], (void *)&a, n) == 0)
      ok++;
    else
      EQ(errno, EAGAIN);
  }
  EQ(ok, 2);
  struct pollfd p = {l, POLLIN, 0};
  EQ(poll(&p, 1, 0), 1);
  OK(accept4(l, 0, 0, SOCK_CLOEXEC | SOCK_NONBLOCK));
}
TEST(datagrams) {
  int s[2];
  OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
  EQ(send(s[0], "one", 3, 0), 3);
  EQ(send(s[0], "", 0, 0), 0);
  EQ(send(s[0], "three", 5, 0), 5);
  char b[16];
  EQ(recv(s[1], b, 2, 0), 2); /* the rest is cut off */
  EQ(recv(s[1], b, 16, 0), 0);
  struct iovec v = {b, 2};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
  EQ(recvmsg(s[1], &m, MSG_PEEK | MSG_TRUNC), 5);
  CHECK(m.msg_flags & MSG_TRUNC);
  EQ(recv(s[1], b, 16, 0), 5);
}
TEST(datagram_names) {
  t_in_folder();
  socklen_t n, m, k = sizeof(struct sockaddr_un);
  struct sockaddr_un a = name_of("a", &n), b = name_of("b", &m), from;
  int x = OK(socket(AF_UNIX, SOCK_DGRAM, 0)), y = OK(socket(AF_UNIX, SOCK_DGRAM, 0));
  OK(bind(x, (void *)&a, n));
  OK(bind(y, (void *)&b, m));
  EQ(sendto(x, "hi", 2, 0, (void *)&b, m), 2);
  char t[8];
  EQ(recvfrom(y, t, 8, 0, (void *)&from, &k), 2);
  STREQ(from.sun_path, "a");
  OK(connect(y, (void *)&a, n));
  EQ(send(y, "yo", 2, 0), 2);
  EQ(recv(x, t, 8, 0), 2);
  OK(close(x));
  ERR(send(y, "x", 1, 0), ECONNREFUSED);
}
TEST(sequenced_packets) {
  t_in_folder();
  int l = listener(SOCK_SEQPACKET, "l"), c = connected(SOCK_SEQPACKET, "l"), s = OK(accept(l, 0, 0));
  EQ(send(c, "abc", 3, 0), 3);
  EQ(send(c, "de", 2, 0), 2);
  char b[8];
  EQ(recv(s, b, 8, 0), 3);
  EQ(recv(s, b, 1, 0), 1);
  ERR(recv(s, b, 8, MSG_DONTWAIT), EAGAIN);
  OK(close(c));
  EQ(recv(s, b, 8, 0), 0);
}
TEST(abstract_names) {
  socklen_t n;
  struct sockaddr_un a = abstract("guest-test", &n);
  int l = OK(socket(AF_UNIX, SOCK_STREAM, 0));
  OK(bind(l, (void *)&a, n));
  OK(listen(l, 1));
  int o = OK(socket(AF_UNIX, SOCK_STREAM, 0));
  ERR(bind(o, (void *)&a, n), EADDRINUSE);
  OK(connect(o, (void *)&a, n));
  OK(close(l));
  l = OK(socket(AF_UNIX, SOCK_STREAM, 0));
  OK(bind(l, (void *)&a, n)); /* free again */
  int u = OK(socket(AF_UNIX, SOCK_STREAM, 0));
  sa_family_t f = AF_UNIX;
  OK(bind(u, (void *)&f, sizeof f)); /* autobind */
  struct sockaddr_un got;
  n = sizeof got;
  OK(getsockname(u, (void *)&got, &n));
  EQ(n, 8);
  EQ(got.sun_path[0], 0);
}
static void send_fds(int s, int *fds, int n) {
  char c[CMSG_SPACE(sizeof(int) * 8)] = {0};
  struct iovec v = {"f", 1};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = c, .msg_controllen = CMSG_SPACE(sizeof(int) * n)};
  struct cmsghdr *h = CMSG_FIRSTHDR(&m);
  h->cmsg_level = SOL_SOCKET;
  h->cmsg_type = SCM_RIGHTS;
  h->cmsg_len = CMSG_LEN(sizeof(int) * n);
  memcpy(CMSG_DATA(h), fds, sizeof(int) * n);
  EQ(sendmsg(s, &m, 0), 1);
}
static int receive_fds(int s, int *fds, int room, int flags, int *msg_flags) {
  char c[CMSG_SPACE(sizeof(int) * 8)] = {0}, b[8];
  struct iovec v = {b, 8};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = c, .msg_controllen = CMSG_LEN(sizeof(int) * room)};
  OK(recvmsg(s, &m, flags));
  if (msg_flags) *msg_flags = m.msg_flags;
  struct cmsghdr *h = CMSG_FIRSTHDR(&m);
  if (!h) return 0;
  EQ(h->cmsg_type, SCM_RIGHTS);
  int n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
  memcpy(fds, CMSG_DATA(h), n * sizeof(int));
  return n;
}
TEST(passing_descriptors) {
  t_in_folder();
  int s[2], p[2], got[8];
  OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
  OK(pipe(p));
  int f = OK(open("f", O_RDWR | O_CREAT, 0600));
  int fds[3] = {p[1], f, p[0]};
  send_fds(s[0], fds, 3);
  OK(close(p[1]));
  OK(close(f));
  pid_t c = CHILD({
    EQ(receive_fds(s[1], got, 8, MSG_CMSG_CLOEXEC, 0), 3);
    EQ(fcntl(got[0], F_GETFD), FD_CLOEXEC);
    EQ(write(got[0], "via pipe", 8), 8);
    EQ(write(got[1], "via file", 8), 8);
  });
  JOIN(c);
  STREQ(t_read_file("f"), "via file");
  char b[16];
  EQ(read(p[0], b, 16), 8);
  EQ(read(p[0], b, 16), 0);
}
TEST(descriptors_without_room) {
  int s[2], p[2], got[8], flags;
  OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
  OK(pipe(p));
  int fds[2] = {p[1], p[1]};
  send_fds(s[0], fds, 2);
  OK(close(p[1]));
  EQ(receive_fds(s[1], got, 1, 0, &flags), 1);
  CHECK(flags & MSG_CTRUNC);
  OK(close(got[0]));
  char b;
  EQ(read(p[0], &b, 1), 0); /* the second was dropped, not leaked */
  int bad[1] = {99};
  char c[CMSG_SPACE(4)] = {0};
  struct iovec v = {"f", 1};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = c, .msg_controllen = sizeof c};
  struct cmsghdr *h = CMSG_FIRSTHDR(&m);
  h->cmsg_level = SOL_SOCKET;
  h->cmsg_type = SCM_RIGHTS;
  h->cmsg_len = CMSG_LEN(4);
  memcpy(CMSG_DATA(h), bad, 4);
  ERR(sendmsg(s[0], &m, 0), EBADF);
}
TEST(descriptor_in_flight_closes_with_socket) {
  int s[2], p[2];
  OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
  OK(pipe(p));
  send_fds(s[0], &p[1], 1);
  OK(close(p[1]));
  OK(close(s[0]));
  OK(close(s[1]));
  char b;
  EQ(read(p[0], &b, 1), 0);
}
TEST(credentials) {
  int s[2], on = 1;
  OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
  struct ucred u;
  socklen_t n = sizeof u;
  OK(getsockopt(s[0], SOL_SOCKET, SO_PEERCRED, &u, &n));
  EQ(u.pid, getpid());
  EQ(u.uid, geteuid());
  OK(setsockopt(s[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
  pid_t c = CHILD({ EQ(send(s[0], "x", 1, 0), 1); });
  char b[8], k[CMSG_SPACE(sizeof u)];
  struct iovec v = {b, 8};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = k, .msg_controllen = sizeof k};
  EQ(recvmsg(s[1], &m, 0), 1);
  struct cmsghdr *h = CMSG_FIRSTHDR(&m);
  CHECK(h && h->cmsg_type == SCM_CREDENTIALS);
  memcpy(&u, CMSG_DATA(h), sizeof u);
  EQ(u.pid, c);
  EQ(u.uid, getuid());
  JOIN(c);
}
TEST(peer_credentials_of_a_connection) {
  t_in_folder();
  int l = listener(SOCK_STREAM, "l");
  pid_t c = CHILD({
    int s = connected(SOCK_STREAM, "l");
    char b;
    read(s, &b, 1);
  });
  int s = OK(accept(l, 0, 0));
  struct ucred u;
  socklen_t n = sizeof u;
  OK(getsockopt(s, SOL_SOCKET, SO_PEERCRED, &u, &n));
  EQ(u.pid, c);
  OK(close(s));
  JOIN(c);
}
TEST(options) {
  int s = OK(socket(AF_UNIX, SOCK_STREAM, 0)), v;
  socklen_t n = sizeof v;
  OK(getsockopt(s, SOL_SOCKET, SO_TYPE, &v, &n));
  EQ(v, SOCK_STREAM);
  OK(getsockopt(s, SOL_SOCKET, SO_DOMAIN, &v, &n));
  EQ(v, AF_UNIX);
  OK(getsockopt(s, SOL_SOCKET, SO_ERROR, &v, &n));
  EQ(v, 0);
  OK(getsockopt(s, SOL_SOCKET, SO_ACCEPTCONN, &v, &n));
  EQ(v, 0);
  struct timeval t = {0, 50000};
  int p[2];
  OK(socketpair(AF_UNIX, SOCK_STREAM, 0, p));
  OK(setsockopt(p[0], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
  char b;
  int64_t start = t_now_ms();
  ERR(read(p[0], &b, 1), EAGAIN);
  CHECK(t_now_ms() - start >= 49);
  ERR(getsockopt(s, SOL_SOCKET, 9999, &v, &n), ENOPROTOOPT);
  int f = OK(open("/dev/null", O_RDWR));
  ERR(getsockopt(f, SOL_SOCKET, SO_TYPE, &v, &n), ENOTSOCK);
}
TEST(stream_backpressure) {
  int s[2];
  OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s));
  static char b[65536];
  long total = 0, n;
  while ((n = write(s[0], b, sizeof b)) > 0) total += n;
  EQ(errno, EAGAIN);
  CHECK(total >= 65536);
  struct pollfd p = {s[0], POLLOUT, 0};
  EQ(poll(&p, 1, 0), 0);
  pid_t c = CHILD({
    OK(close(s[0]));
    static char d[65536];
    fcntl(s[1], F_SETFL, 0);
    long got = 0;
    ssize_t r;
    while (got < total && (r = OK(read(s[1], d, sizeof d))) > 0) got += r;
    EQ(got, total);
  });
  EQ(poll(&p, 1, 5000), 1);
  JOIN(c);
}
TEST(multiple_messages) {
  int s[2];
  OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
  struct iovec v[2] = {{"ab", 2}, {"cde", 3}};
  struct mmsghdr m[2] = {{.msg_hdr = {.msg_iov = &v[0], .msg_iovlen = 1}}, {.msg_hdr = {.msg_iov = &v[1], .msg_iovlen = 1}}};
  EQ(sendmmsg(s[0], m, 2, 0), 2);
  EQ(m[1].msg_len, 3);
  char b[2][8];
  struct iovec w[2] = {{b[0], 8}, {b[1], 8}};
  struct mmsghdr r[2] = {{.msg_hdr = {.msg_iov = &w[0], .msg_iovlen = 1}}, {.msg_hdr = {.msg_iov = &w[1], .msg_iovlen = 1}}};
  EQ(recvmmsg(s[1], r, 2, 0, 0), 2);
  EQ(r[0].msg_len, 2);
}
TEST(large_stream_between_processes) {
  int s[2];
  OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
  size_t size = 8 << 20;
  pid_t c = CHILD({
    unsigned char *b = malloc(size);
    for (size_t i = 0; i < size; i++) b[i] = i * 31 >> 3;
    size_t at = 0;
    while (at < size) at += OK(write(s[0], b + at, size - at));
    OK(shutdown(s[0], SHUT_WR));
  });
  OK(close(s[0]));
  static unsigned char b[100000];
  size_t at = 0;
  ssize_t n;
  while ((n = OK(read(s[1], b, sizeof b))) > 0)
    for (ssize_t i = 0; i < n; i++, at++) EQ(b[i], (unsigned char)(at * 31 >> 3));
  EQ(at, size);
  JOIN(c);
}
