/* Terminals: pairs, line discipline, sizes, job control. */
#include "t.h"
#include <pty.h>
#include <termios.h>

static int master, slave;
static char slave_name[64];
static void open_pair(void) {
  master = OK(open("/dev/ptmx", O_RDWR | O_NOCTTY));
  int n, zero = 0;
  OK(ioctl(master, TIOCSPTLCK, &zero));
  OK(ioctl(master, TIOCGPTN, &n));
  snprintf(slave_name, sizeof slave_name, "/dev/pts/%d", n);
  slave = OK(open(slave_name, O_RDWR | O_NOCTTY));
}
static const char *from_master(void) {
  static char b[1024];
  struct pollfd p = {master, POLLIN, 0};
  size_t n = 0;
  while (poll(&p, 1, 100) == 1 && (p.revents & POLLIN)) {
    ssize_t r = read(master, b + n, sizeof b - 1 - n);
    if (r <= 0) break;
    n += r;
  }
  b[n] = 0;
  return b;
}
static void set_raw(void) {
  struct termios t;
  OK(tcgetattr(slave, &t));
  cfmakeraw(&t);
  OK(tcsetattr(slave, TCSANOW, &t));
}

TEST(pair_exists) {
  open_pair();
  CHECK(isatty(master) && isatty(slave));
  struct stat s;
  OK(fstat(slave, &s));
  CHECK(S_ISCHR(s.st_mode));
  char b[64];
  EQ(ttyname_r(slave, b, sizeof b), 0);
  STREQ(b, slave_name);
  int other = OK(open("/dev/ptmx", O_RDWR | O_NOCTTY)), n, m;
  OK(ioctl(master, TIOCGPTN, &n));
  OK(ioctl(other, TIOCGPTN, &m));
  CHECK(n != m);
  snprintf(b, sizeof b, "/dev/pts/%d", m);
  ERR(open(b, O_RDWR | O_NOCTTY), EIO); /* locked */
}
TEST(echo_and_lines) {
  open_pair();
  EQ(write(master, "abc", 3), 3);
  STREQ(from_master(), "abc");
  OK(fcntl(slave, F_SETFL, O_NONBLOCK));
  char b[64] = {0};
  ERR(read(slave, b, 64), EAGAIN); /* no line yet */
  EQ(write(master, "\177d\rrest", 7), 7);
  EQ(read(slave, b, 64), 4);
  STREQ(b, "abd\n");
  STREQ(from_master(), "\b \bd\r\nrest");
  EQ(write(master, "\025x\n", 3), 3);
  EQ(read(slave, b, 64), 2);
  CHECK(!memcmp(b, "x\n", 2));
  EQ(write(master, "\004", 1), 1);
  EQ(read(slave, b, 64), 0); /* end of file */
}
TEST(output_processing) {
  open_pair();
  EQ(write(slave, "a\nb", 3), 3);
  STREQ(from_master(), "a\r\nb");
  struct termios t;
  OK(tcgetattr(slave, &t));
  t.c_oflag &= ~OPOST;
  OK(tcsetattr(slave, TCSANOW, &t));
  EQ(write(slave, "a\nb", 3), 3);
  STREQ(from_master(), "a\nb");
}
TEST(raw_mode) {
  open_pair();
  set_raw();
  EQ(write(master, "x\r\003", 3), 3);
  char b[8];
  EQ(read(slave, b, 8), 3);
  CHECK(!memcmp(b, "x\r\003", 3));
  STREQ(from_master(), "");
  struct termios t;
  OK(tcgetattr(slave, &t));
  t.c_cc[VMIN] = 0;
  t.c_cc[VTIME] = 1;
  OK(tcsetattr(slave, TCSANOW, &t));
  int64_t s = t_now_ms();
  EQ(read(slave, b, 8), 0);
  CHECK(t_now_ms() - s >= 90);
}
TEST(default_settings) {
  open_pair();
  struct termios t;
  OK(tcgetattr(slave, &t));
  say("iflag %x oflag %x cflag %x lflag %x", t.c_iflag, t.c_oflag, t.c_cflag, t.c_lflag);
  say("intr %d quit %d erase %d kill %d eof %d susp %d min %d time %d", t.c_cc[VINTR], t.c_cc[VQUIT], t.c_cc[VERASE], t.c_cc[VKILL], t.c_cc[VEOF], t.c_cc[VSUSP], t.c_cc[VMIN], t.c_cc[VTIME]);
}
TEST(window_size) {
  open_pair();
  struct winsize w = {24, 80, 0, 0}, g;
  OK(ioctl(master, TIOCSWINSZ, &w));
  OK(ioctl(slave, TIOCGWINSZ, &g));
  EQ(g.ws_row, 24);
  EQ(g.ws_col, 80);
}
TEST(hangup) {
  open_pair();
  OK(close(slave));
  char b;
  ERR(read(master, &b, 1), EIO);
  slave = OK(open(slave_name, O_RDWR | O_NOCTTY));
  OK(close(master));
  EQ(read(slave, &b, 1), 0);
  ERR(write(slave, "x", 1), EIO);
  struct stat s;
  ERR(stat(slave_name, &s), ENOENT);
}
static volatile int got;
static void note(int s) { got = s; }
/* A session leader on the slave, which runs the code with it as terminal. */
#define SESSION(...) ({ open_pair(); CHILD({ OK(close(master)); OK(setsid()); OK(ioctl(slave, TIOCSCTTY, 0)); __VA_ARGS__; }); })
TEST(controlling_terminal) {
  pid_t c = SESSION({
    int t = OK(open("/dev/tty", O_RDWR));
    EQ(tcgetsid(slave), getpid());
    EQ(tcgetpgrp(t), getpgrp());
    EQ(write(t, "hi", 2), 2);
    signal(SIGHUP, note);
    OK(ioctl(t, TIOCNOTTY));
    EQ(got, SIGHUP);
    ERR(open("/dev/tty", O_RDWR), ENXIO);
  });
  STREQ(from_master(), "hi");
  JOIN(c);
}
TEST(interrupt_character) {
  pid_t c = SESSION({
    signal(SIGINT, note);
    EQ(write(slave, "ready", 5), 5);
    AWAIT(got == SIGINT);
    signal(SIGQUIT, note);
    EQ(write(slave, "more", 4), 4);
    AWAIT(got == SIGQUIT);
  });
  STREQ(from_master(), "ready");
  EQ(write(master, "\003", 1), 1);
  STREQ(from_master(), "^Cmore");
  EQ(write(master, "\034", 1), 1);
  JOIN(c);
}
TEST(leader_end_hangs_up) {
  int p[2];
  OK(pipe(p));
  pid_t c = SESSION({
    pid_t g = CHILD({
      signal(SIGHUP, note);
      EQ(write(p[1], "r", 1), 1);
      AWAIT(got == SIGHUP);
      EQ(write(p[1], "h", 1), 1);
    });
    char b;
    EQ(read(p[0], &b, 1), 1);
    _exit(g < 0);
  });
  JOIN(c);
  OK(close(p[1]));
  char b;
  EQ(read(p[0], &b, 1), 1); /* only the foreground group is told */
  EQ(b, 'h');
}
TEST(background_reader_is_stopped) {
  pid_t c = SESSION({
    signal(SIGTTOU, SIG_IGN);
    pid_t g = CHILD({
      OK(setpgid(0, 0));
      char b[8];
      read(slave, b, 8);
    });
    int s;
    EQ(waitpid(g, &s, WUNTRACED), g);
    CHECK(WIFSTOPPED(s) && WSTOPSIG(s) == SIGTTIN);
    OK(tcsetpgrp(slave, g));
    EQ(tcgetpgrp(slave), g);
    OK(kill(g, SIGCONT));
    JOIN(g);
    OK(tcsetpgrp(slave, getpgrp()));
  });
  t_ms(50);
  EQ(write(master, "line\n", 5), 5);
  JOIN(c);
}
TEST(background_writer_with_tostop) {
  pid_t c = SESSION({
    struct termios t;
    OK(tcgetattr(slave, &t));
    t.c_lflag |= TOSTOP;
    OK(tcsetattr(slave, TCSANOW, &t));
    pid_t g = CHILD({
      OK(setpgid(0, 0));
      EQ(write(slave, "x", 1), 1);
    });
    int s;
    EQ(waitpid(g, &s, WUNTRACED), g);
    CHECK(WIFSTOPPED(s) && WSTOPSIG(s) == SIGTTOU);
    OK(kill(g, SIGKILL));
    JOIN_SIGNAL(g, SIGKILL);
  });
  JOIN(c);
}
TEST(suspend_character) {
  pid_t c = SESSION({
    signal(SIGTTOU, SIG_IGN);
    pid_t g = CHILD({
      OK(setpgid(0, 0));
      OK(tcsetpgrp(slave, getpid()));
      signal(SIGTSTP, SIG_DFL);
      EQ(write(slave, "go", 2), 2);
      for (;;) pause();
    });
    int s;
    EQ(waitpid(g, &s, WUNTRACED), g);
    CHECK(WIFSTOPPED(s) && WSTOPSIG(s) == SIGTSTP);
    OK(kill(g, SIGKILL));
    JOIN_SIGNAL(g, SIGKILL);
  });
  STREQ(from_master(), "go");
  EQ(write(master, "\032", 1), 1);
  JOIN(c);
}
TEST(shell_with_job_control) {
  pid_t c = SESSION({
    OK(dup2(slave, 0));
    OK(dup2(slave, 1));
    OK(dup2(slave, 2));
    execl("/bin/bash", "bash", "--norc", "--noprofile", "-i", NULL);
  });
  OK(close(slave));
  const char *script = "PS1=; stty -echo\n sleep 100 & kill %1; wait; jobs; echo st$((1+1)) ; exit 6\n";
  EQ(write(master, script, strlen(script)), strlen(script));
  char all[8192] = {0};
  size_t n = 0;
  ssize_t r;
  while (n < sizeof all - 1 && (r = read(master, all + n, sizeof all - 1 - n)) > 0) n += r;
  CHECK(strstr(all, "st2"));
  JOIN_STATUS(c, 6);
}
TEST(forkpty_reads_to_the_end) {
  int m;
  pid_t c = forkpty(&m, 0, 0, 0);
  if (!c) {
    for (int i = 0; i < 200; i++) printf("line %d\n", i);
    fflush(stdout);
    _exit(0);
  }
  char b[256];
  long total = 0;
  ssize_t n;
  while ((n = read(m, b, sizeof b)) > 0) total += n;
  EQ(errno, EIO);
  EQ(total, 10 * 8 + 90 * 9 + 100 * 10);
  JOIN(c);
}
TEST(packet_mode_and_queues) {
  open_pair();
  int on = 1, n;
  OK(ioctl(master, TIOCPKT, &on));
  EQ(write(slave, "x", 1), 1);
  char b[8];
  EQ(read(master, b, 8), 2);
  CHECK(b[0] == 0 && b[1] == 'x');
  on = 0;
  OK(ioctl(master, TIOCPKT, &on));
  EQ(write(master, "ab\n", 3), 3);
  AWAIT((OK(ioctl(slave, FIONREAD, &n)), n == 3));
  OK(tcflush(slave, TCIFLUSH));
  OK(ioctl(slave, FIONREAD, &n));
  EQ(n, 0);
}
