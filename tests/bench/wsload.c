// wsload: a WebSocket fan-out load generator (epoll, one thread).
// N subscribers are spread over C channels of one server. One publisher per channel sends text frames of S bytes,
// with at most W messages outstanding per channel; a message is done when every subscriber has received it.
// With -pubport, the publishers connect to another node. With -secret (and -key), the clients speak the Pusher protocol
// in the private channels private-c0, private-c1, ...
// Prints the connect rate, deliveries per second, latency percentiles, and the CPU time of the server's processes.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "hmac.h"

typedef struct {
  int fd, chan, state, ispub;
  unsigned char* buf;
  size_t len, cap;
} conn_t;
enum { CONNECTING, HANDSHAKE, SUBSCRIBING, OPEN };
static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}
static const char* opt(int c, char** v, const char* k, const char* d) {
  for (int i = 1; i + 1 < c; i++)
    if (!strcmp(v[i], k))
      return v[i + 1];
  return d;
}
static const char *host, *pathfmt, *pubfmt, *submsg, *key, *secret;
static int port, pubport;
static conn_t* cs;
static int ep;
static const char* hosthdr;
static int nsub, nchan, size, window_;
static long long sent[4096], got[4096], total, bytes;
static int subs_of[4096];
static int HB = 200000;
static unsigned* hist;  // 10us buckets
static double tstart, lastprogress;
static const char* marker = "T=";
enum { MOST_PROCESSES = 16 };
// Add up the CPU time of processes in seconds; with `each`, also store that of every process.
static double cpu_of(const char* pids, double* each) {
  double s = 0;
  char b[256];
  strncpy(b, pids, 255);
  b[255] = 0;
  int i = 0;
  for (char* p = strtok(b, ","); p && i < MOST_PROCESSES; p = strtok(NULL, ","), i++) {
    clockid_t clock;
    struct timespec t = {0};
    if (!clock_getcpuclockid(atoi(p), &clock))
      clock_gettime(clock, &t);
    double used = t.tv_sec + t.tv_nsec * 1e-9;
    s += used;
    if (each)
      each[i] = used;
  }
  return s;
}
static long rss_of(const char* pids) {
  long s = 0;
  char b[256];
  strncpy(b, pids, 255);
  b[255] = 0;
  for (char* p = strtok(b, ","); p; p = strtok(NULL, ",")) {
    char f[64];
    snprintf(f, 64, "/proc/%s/statm", p);
    FILE* h = fopen(f, "r");
    if (!h)
      continue;
    long a, r;
    if (fscanf(h, "%ld %ld", &a, &r) == 2)
      s += r * 4;
    fclose(h);
  }
  return s;
}
static void die(const char* m) {
  fprintf(stderr, "%s: %s\n", m, strerror(errno));
  exit(1);
}
static int dial(int i) {
  conn_t* c = &cs[i];
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (c->fd < 0)
    die("socket");
  int one = 1;
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, 4);
  // spread the source addresses over 127.0.0.0/8, since one address has only 28,000 ports
  struct sockaddr_in s = {.sin_family = AF_INET};
  char ip[32];
  snprintf(ip, 32, "127.0.%d.%d", 1 + (i / 20000), 1 + ((i / 100) % 200));
  inet_pton(AF_INET, ip, &s.sin_addr);
  int b = 1;
  setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &b, 4);
  bind(c->fd, (void*)&s, sizeof s);
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(c->ispub ? pubport : port)};
  inet_pton(AF_INET, host, &a.sin_addr);
  if (connect(c->fd, (void*)&a, sizeof a) && errno != EINPROGRESS)
    die("connect");
  c->state = CONNECTING;
  struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.u32 = i};
  epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e);
  return 0;
}
static int wr(conn_t* c, const void* b, size_t n) {
  size_t o = 0;
  while (o < n) {
    ssize_t k = send(c->fd, (char*)b + o, n - o, MSG_NOSIGNAL);
    if (k < 0) {
      if (errno == EAGAIN) {
        usleep(50);
        continue;
      }
      return -1;
    }
    o += k;
  }
  return 0;
}
static int sendframe(conn_t* c, const char* p, size_t n) {
  unsigned char* f = malloc(n + 14);
  size_t h = 0;
  f[h++] = 0x81;
  if (n < 126)
    f[h++] = 0x80 | n;
  else if (n < 65536) {
    f[h++] = 0x80 | 126;
    f[h++] = n >> 8;
    f[h++] = n;
  } else {
    f[h++] = 0x80 | 127;
    for (int i = 7; i >= 0; i--) f[h++] = (n >> (8 * i)) & 255;
  }
  memset(f + h, 0, 4);
  h += 4;
  memcpy(f + h, p, n);
  int r = wr(c, f, h + n);
  free(f);
  return r;
}
static void handshake(conn_t* c) {
  char path[512], rq[1536];
  snprintf(path, 512, c->ispub ? pubfmt : pathfmt, c->chan, c->chan);
  snprintf(rq, 1536,
           "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: "
           "dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nOrigin: http://%s\r\n\r\n",
           path, hosthdr, hosthdr);
  wr(c, rq, strlen(rq));
  c->state = HANDSHAKE;
}
static int opened;
static int closed_;
static int publish(int ch) {
  static char* m;
  if (!m)
    m = malloc(size + 128);
  memset(m, 'x', size);
  char channel[64] = "";
  if (secret)
    snprintf(channel, 64, "\"channel\":\"private-c%d\",", ch);
  const char* event = secret ? "client-b" : "b";
  int k = snprintf(m, size, "{\"event\":\"%s\",%s\"data\":\"T=%.9f;", event, channel, now());
  m[k] = 'x';
  m[size - 2] = '"';
  m[size - 1] = '}';
  if (sendframe(&cs[nsub + ch], m, size))
    return -1;
  sent[ch]++;
  return 0;
}
static void pump(int ch) {
  while (sent[ch] * subs_of[ch] - got[ch] < (long long)window_ * subs_of[ch])
    if (publish(ch))
      return;
}
// Handle a frame of a Pusher server before the subscription succeeds; return 1 when it has.
static int subscribed(conn_t* c, unsigned char* p, size_t n) {
  if (memmem(p, n, "error", 5)) {
    fprintf(stderr, "subscription refused: %.*s\n", (int)n, p);
    exit(1);
  }
  char text[1024], to_sign[128], m[512], signature[65];
  snprintf(text, 1024, "%.*s", (int)n, p);
  char *id = strstr(text, "socket_id"), number[48];
  if (id && sscanf(id + 9, "%*[^0-9]%47[0-9.]", number) == 1) {
    snprintf(to_sign, 128, "%s:private-c%d", number, c->chan);
    hmac_sha256(secret, to_sign, signature);
    snprintf(m, 512, "{\"event\":\"pusher:subscribe\",\"data\":{\"channel\":\"private-c%d\",\"auth\":\"%s:%s\"}}",
             c->chan, key, signature);
    sendframe(c, m, strlen(m));
  }
  return strstr(text, "subscription_succeeded") != NULL;
}
static void onframe(conn_t* c, unsigned char* p, size_t n, int op, int measuring) {
  if (op == 9) {
    unsigned char f[131];
    f[0] = 0x8a;
    f[1] = 0x80 | n;
    memset(f + 2, 0, 4);
    memcpy(f + 6, p, n);
    wr(c, f, 6 + n);
    return;
  }
  if (op != 1 && op != 2)
    return;
  char* t = memmem(p, n, marker, 2);
  if (!t)
    return;
  double d = now() - strtod(t + 2, NULL);
  total++;
  bytes += n;
  got[c->chan]++;
  if (measuring) {
    long b = d * 1e5;
    if (b < 0)
      b = 0;
    if (b >= HB)
      b = HB - 1;
    hist[b]++;
  }
}
int main(int argc, char** argv) {
  host = opt(argc, argv, "-h", "127.0.0.1");
  port = atoi(opt(argc, argv, "-p", "8000"));
  pubport = atoi(opt(argc, argv, "-pubport", opt(argc, argv, "-p", "8000")));
  key = opt(argc, argv, "-key", "app-key");
  secret = opt(argc, argv, "-secret", NULL);
  pathfmt = opt(argc, argv, "-path", "/");
  pubfmt = opt(argc, argv, "-pub", NULL);
  submsg = opt(argc, argv, "-sub", NULL);
  hosthdr = opt(argc, argv, "-host", "localhost");
  nsub = atoi(opt(argc, argv, "-n", "100"));
  nchan = atoi(opt(argc, argv, "-c", "1"));
  size = atoi(opt(argc, argv, "-s", "128"));
  window_ = atoi(opt(argc, argv, "-w", "4"));
  double dur = atof(opt(argc, argv, "-d", "5"));
  double warm = atof(opt(argc, argv, "-warm", "1"));
  int conc = atoi(opt(argc, argv, "-conc", "64"));
  const char* pids = opt(argc, argv, "-pids", "");
  int idle = atoi(opt(argc, argv, "-idle", "0"));
  int pubself = atoi(opt(argc, argv, "-self", "0"));
  double rate = atof(opt(argc, argv, "-rate", "0"));  // messages per second and channel, 0 uses the window
  int spread = atoi(opt(argc, argv, "-spread", "0"));  // with a rate: send in one channel after the other, not in all
  if (!pubfmt)
    pubfmt = pathfmt;
  hist = calloc(HB, 4);
  ep = epoll_create1(0);
  int tot = nsub + nchan;
  cs = calloc(tot, sizeof *cs);
  struct rlimit rl = {1 << 20, 1 << 20};
  setrlimit(RLIMIT_NOFILE, &rl);
  for (int i = 0; i < tot; i++) {
    cs[i].chan = i < nsub ? i % nchan : i - nsub;
    cs[i].ispub = i >= nsub;
    if (!cs[i].ispub || pubself)
      subs_of[cs[i].chan]++;
  }
  long rss0 = rss_of(pids);
  double c0 = cpu_of(pids, NULL), t0 = now();
  int next = 0, inflight = 0;
  struct epoll_event ev[512];
  int phase = 0;
  double tmeas = 0, cpu_m0 = 0, each0[MOST_PROCESSES], each[MOST_PROCESSES];
  long long due = 0;
  long long tot0 = 0, by0 = 0;
  double tend = 1e18;
  int lastopened = 0;
  double tlast = now();
  while (1) {
    while (next < tot && inflight < conc) {
      dial(next++);
      inflight++;
    }
    int k = epoll_wait(ep, ev, 512, phase && rate > 0 ? 1 : 200);
    double t = now();
    for (int i = 0; i < k; i++) {
      conn_t* c = &cs[ev[i].data.u32];
      if (c->fd < 0)
        continue;
      if (c->state == CONNECTING && (ev[i].events & EPOLLOUT)) {
        int er = 0;
        socklen_t l = 4;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &er, &l);
        if (er) {
          errno = er;
          die("connect");
        }
        struct epoll_event e = {.events = EPOLLIN, .data.u32 = ev[i].data.u32};
        epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e);
        handshake(c);
        continue;
      }
      if (!(ev[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        continue;
      if (c->cap - c->len < 65536) {
        c->cap = c->len + (phase ? 65536 : 4096) + (c->cap ? 65536 : 0);
        c->buf = realloc(c->buf, c->cap);
      }
      ssize_t n = recv(c->fd, c->buf + c->len, c->cap - c->len, 0);
      if (n <= 0) {
        if (n < 0 && errno == EAGAIN)
          continue;
        close(c->fd);
        c->fd = -1;
        closed_++;
        if (c->state != OPEN) {
          fprintf(stderr, "closed before open: %.*s\n", (int)c->len, c->buf);
          exit(1);
        }
        continue;
      }
      c->len += n;
      if (c->state == HANDSHAKE) {
        unsigned char* e = memmem(c->buf, c->len, "\r\n\r\n", 4);
        if (!e)
          continue;
        if (memcmp(c->buf + 9, "101", 3)) {
          fprintf(stderr, "handshake refused: %.*s\n", (int)(e - c->buf), c->buf);
          exit(1);
        }
        size_t h = e + 4 - c->buf;
        memmove(c->buf, c->buf + h, c->len - h);
        c->len -= h;
        c->state = secret ? SUBSCRIBING : OPEN;
        opened += !secret;
        inflight -= !secret;
        if (submsg && !c->ispub) {
          char m[512];
          snprintf(m, 512, submsg, c->chan);
          sendframe(c, m, strlen(m));
        }
      }
      size_t o = 0;
      while (c->len - o >= 2) {
        unsigned char* b = c->buf + o;
        size_t pl = b[1] & 127, h = 2;
        if (pl == 126) {
          if (c->len - o < 4)
            break;
          pl = b[2] << 8 | b[3];
          h = 4;
        } else if (pl == 127) {
          if (c->len - o < 10)
            break;
          pl = 0;
          for (int j = 2; j < 10; j++) pl = pl << 8 | b[j];
          h = 10;
        }
        if (c->len - o < h + pl)
          break;
        if (c->state == OPEN)
          onframe(c, b + h, pl, b[0] & 15, phase == 2);
        else if (subscribed(c, b + h, pl)) {
          c->state = OPEN;
          opened++;
          inflight--;
        }
        o += h + pl;
      }
      if (o) {
        memmove(c->buf, c->buf + o, c->len - o);
        c->len -= o;
      }
    }
    t = now();
    if (opened != lastopened) {
      lastopened = opened;
      tlast = t;
    }
    if (phase == 0 && t - tlast > 20) {
      fprintf(stderr, "stuck: %d of %d open\n", opened, tot);
      exit(1);
    }
    if (phase == 0 && opened == tot) {
      double c1 = cpu_of(pids, NULL);
      printf("connect: %d in %.2fs = %.0f/s, server cpu %.1f us each, rss %.1f KiB each (%ld MiB)\n", tot,
             t - t0, tot / (t - t0), 1e6 * (c1 - c0) / tot, (double)(rss_of(pids) - rss0) / tot,
             rss_of(pids) / 1024);
      fflush(stdout);
      if (idle) {
        sleep(idle);
        return 0;
      }
      usleep(500000);
      phase = 1;
      tstart = now();
      tmeas = tstart + warm;
    }
    if (phase == 1 && t >= tmeas) {
      phase = 2;
      tot0 = total;
      by0 = bytes;
      cpu_m0 = cpu_of(pids, each0);
      tmeas = t;
      tend = t + dur;
    }
    if (phase) {
      if (rate > 0) {
        double turns = (t - tstart) * rate;
        long long until = spread ? turns * nchan : (long long)turns * nchan;
        for (; due < until; due++) publish(due % nchan);
      } else
        for (int ch = 0; ch < nchan; ch++) pump(ch);
    }
    if (t >= tend) {
      double el = t - tmeas;
      long long d = total - tot0;
      double cpu = cpu_of(pids, each) - cpu_m0;
      unsigned long long s = 0, cum = 0;
      for (int i = 0; i < HB; i++) s += hist[i];
      double q[4] = {.5, .95, .99, .999};
      double r[4];
      int j = 0;
      for (int i = 0; i < HB && j < 4; i++) {
        cum += hist[i];
        while (j < 4 && cum >= q[j] * s) r[j++] = i * .01;
      }
      struct rusage ru;
      getrusage(RUSAGE_SELF, &ru);
      printf(
          "deliver: n=%d c=%d s=%d: %.0f/s, p50 %.2f p95 %.2f p99 %.2f p99.9 %.2f ms, server cpu %.2f "
          "us/delivery (%.0f%% of a core), closed %d, loader cpu %.1fs, rss %ld MiB\n",
          nsub, nchan, size, d / el, r[0], r[1], r[2], r[3], 1e6 * cpu / (d ? d : 1), 100 * cpu / el, closed_,
          ru.ru_utime.tv_sec + ru.ru_stime.tv_sec + (ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) * 1e-6,
          rss_of(pids) / 1024);
      printf("us/delivery of each process:");
      int processes = 0;
      for (const char* p = pids; p && *p && processes < MOST_PROCESSES; p = strchr(p + 1, ','), processes++)
        printf(" %.2f", 1e6 * (each[processes] - each0[processes]) / (d ? d : 1));
      printf("\n");
      return 0;
    }
  }
}
