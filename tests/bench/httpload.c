// Load for HTTP servers: exchanges on many connections, and the server's CPU per exchange.
//
//   httpload -p 8000 -request FILE -n 64 -d 4 -pid 1234 [-new] [-then FILE]
//
// Each connection sends the bytes of the request and waits for the whole response, again and again. With -new, each
// exchange has a connection of its own, which ends when the server closes it; -then is sent after the head of the
// response, such as the close frame of a WebSocket.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

typedef struct {
  int fd, length, answered, half;
  double begun;
  char buffer[16384];
} conn_t;

static char request[1 << 17], then[1024];
static int request_size, then_size, epoll, port, renew;
static const char* expected;
static long long done;
static double times[1 << 22];

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

static double cpu_of(const char* pids) {
  double sum = 0;
  for (const char* p = pids; p && *p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL) {
    char name[64], line[1024];
    snprintf(name, sizeof name, "/proc/%d/schedstat", atoi(p));
    FILE* file = fopen(name, "r");
    if (file && fgets(line, sizeof line, file))
      sum += atof(line) * 1e-9;
    if (file)
      fclose(file);
  }
  return sum;
}

static void die(const char* what, conn_t* c) {
  fprintf(stderr, "%s: %s\n%.*s\n", what, strerror(errno), c ? c->length : 0, c ? c->buffer : "");
  exit(1);
}

static int load_file(const char* name, char* into, int most) {
  FILE* file = fopen(name, "rb");
  if (!file)
    die(name, NULL);
  int size = fread(into, 1, most, file);
  fclose(file);
  return size;
}

static void send_all(conn_t* c, const char* data, int size) {
  if (send(c->fd, data, size, MSG_NOSIGNAL) != size)
    die("send", c);
}

static void ask(conn_t* c) {
  c->length = c->answered = 0;
  c->begun = now();
  if (c->half) {  // as clients do that send head and body separately
    send_all(c, request, c->half);
    send_all(c, request + c->half, request_size - c->half);
  } else
    send_all(c, request, request_size);
}

static void dial(conn_t* c) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  c->fd = socket(AF_INET, SOCK_STREAM, 0);
  int one = 1;
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (connect(c->fd, (struct sockaddr*)&to, sizeof to))
    die("connect", NULL);
  fcntl(c->fd, F_SETFL, O_NONBLOCK);
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
  epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event);
  ask(c);
}

static int is_complete(conn_t* c) {
  char* end = memmem(c->buffer, c->length, "\r\n\r\n", 4);
  if (!end)
    return 0;
  c->buffer[c->length] = 0;
  char* length = strcasestr(c->buffer, "content-length:");
  return length && length < end && c->length - (end + 4 - c->buffer) >= atoi(length + 15);
}

static void note(conn_t* c) {
  if (memcmp(c->buffer + 9, expected, 3))
    die("unexpected response", c);
  if (done < (long long)(sizeof times / sizeof *times))
    times[done] = now() - c->begun;
  done++;
}

static int by_value(const void* a, const void* b) {
  double d = *(double*)a - *(double*)b;
  return (d > 0) - (d < 0);
}

static const char* option(int argc, char** argv, const char* name, const char* fallback) {
  for (int i = 1; i < argc; i++)
    if (!strcmp(argv[i], name))
      return i + 1 < argc ? argv[i + 1] : "";
  return fallback;
}

int main(int argc, char** argv) {
  port = atoi(option(argc, argv, "-p", "8000"));
  request_size = load_file(option(argc, argv, "-request", "request"), request, sizeof request);
  const char* then_name = option(argc, argv, "-then", NULL);
  if (then_name)
    then_size = load_file(then_name, then, sizeof then);
  expected = option(argc, argv, "-status", "200");
  renew = option(argc, argv, "-new", NULL) != NULL;
  int connections = atoi(option(argc, argv, "-n", "64"));
  double seconds = atof(option(argc, argv, "-d", "4")), warm = atof(option(argc, argv, "-warm", "0.5"));
  const char* pids = option(argc, argv, "-pid", "");
  int half = 0;
  if (option(argc, argv, "-split", NULL))
    half = (char*)memmem(request, request_size, "\r\n\r\n", 4) + 4 - request;
  epoll = epoll_create1(0);
  conn_t* all = calloc(connections, sizeof *all);
  for (int i = 0; i < connections; i++) {
    all[i].half = half;
    dial(&all[i]);
  }
  double begun = now() + warm, cpu = -1, t;
  struct epoll_event events[256];
  while ((t = now()) < begun + seconds) {
    if (cpu < 0 && t >= begun) {
      done = 0;
      cpu = cpu_of(pids);
      begun = t;
    }
    int ready = epoll_wait(epoll, events, 256, 100);
    for (int i = 0; i < ready; i++) {
      conn_t* c = events[i].data.ptr;
      ssize_t got = recv(c->fd, c->buffer + c->length, sizeof c->buffer - 1 - c->length, 0);
      if (got < 0 && errno == EAGAIN)
        continue;
      if (got > 0) {
        c->length += got;
        if (!renew && is_complete(c)) {
          note(c);
          ask(c);
        } else if (renew && then_size && !c->answered && memmem(c->buffer, c->length, "\r\n\r\n", 4)) {
          c->answered = 1;
          send_all(c, then, then_size);
        }
        continue;
      }
      if (!renew || !c->length)
        die("the server closed a connection", c);
      note(c);
      close(c->fd);
      dial(c);
    }
  }
  double spent = cpu_of(pids) - cpu, elapsed = now() - begun;
  int kept = done < (long long)(sizeof times / sizeof *times) ? done : (int)(sizeof times / sizeof *times);
  qsort(times, kept, sizeof *times, by_value);
  printf("exchange: %.0f/s, p50 %.3f p99 %.3f ms, server cpu %.1f us each (%.0f%% of a core)\n", done / elapsed,
         times[kept / 2] * 1e3, times[(int)(kept * .99)] * 1e3, spent / done * 1e6, spent / elapsed * 100);
  return 0;
}
