/* Small requests for the benchmarks: GET and HEAD over many connections that stay open, one request at a time on each.
 *
 *   ask HOST PORT THREADS CONNECTIONS SECONDS < requests
 *
 * The input is request heads, each ended by its empty line. They are sent in turn, over and over until SECONDS have
 * passed; with SECONDS 0 each is sent once. Sixteen '@' in a head become a number that no other request has. Prints
 * one line of JSON: {"count": N, "bytes": N, "seconds": S, "p50_ms": T, "p99_ms": T}, the bytes those of bodies. An
 * answer that is not 2xx ends the program with exit code 1 and the answer on stderr.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ROOM = 64 << 10, LONGEST = 8 << 10, MARK = 16, BUCKETS = 1 << 20, EVENTS = 256 };
enum state { IN_HEAD, IN_BODY, IN_SIZE, IN_CHUNK };

struct request { const char *text, *mark; size_t size; int is_head; };

struct connection {
    int socket;
    enum state state;
    int is_head, is_last;           /* the request was a HEAD; the chunk that is read is the last */
    size_t filled, left;            /* bytes in `data`; bytes that the body or chunk still has */
    double since;
    char data[ROOM + 1];
};

struct worker { pthread_t id; int connections; size_t count, bytes, serial; uint32_t *buckets; int number; };

static const char *host, *port;
static struct request *requests;
static size_t request_count;
static atomic_size_t next_request;
static int worker_count;
static double seconds_limit, began;

static void fail(const char *format, ...) {
    va_list list;
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fputc('\n', stderr);
    _exit(1);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static int is_over(void) { return seconds_limit > 0 && now() - began > seconds_limit; }

/* ---------------------------------------------------------------- one request */

/* Sends the next request; false where there is none left. */
static int send_next(struct worker *w, struct connection *c) {
    char text[LONGEST];
    size_t place = atomic_fetch_add_explicit(&next_request, 1, memory_order_relaxed);
    if (seconds_limit <= 0 && place >= request_count) return 0;
    struct request *r = &requests[place % request_count];
    const char *data = r->text;
    if (r->mark) {
        char digits[MARK + 1];
        memcpy(text, r->text, r->size);
        snprintf(digits, sizeof digits, "%016zx", (w->serial++ * (size_t)worker_count + (size_t)w->number));
        memcpy(text + (r->mark - r->text), digits, MARK);
        data = text;
    }
    c->is_head = r->is_head, c->state = IN_HEAD, c->filled = 0, c->since = now();
    if (send(c->socket, data, r->size, MSG_NOSIGNAL) != (ssize_t)r->size) fail("a request could not be sent whole");
    return 1;
}

static char *field(char *head, const char *name) {
    size_t length = strlen(name);
    for (char *line = strstr(head, "\r\n"); line && line[2] != '\r'; line = strstr(line + 2, "\r\n"))
        if (!strncasecmp(line + 2, name, length) && line[2 + length] == ':') return line + 2 + length + 1;
    return NULL;
}

static void take(struct connection *c, size_t count) {
    memmove(c->data, c->data + count, c->filled - count);
    c->filled -= count;
    c->data[c->filled] = 0;
}

/* The head has come: what follows it. True where nothing does. */
static int read_head(struct connection *c) {
    char *end = strstr(c->data, "\r\n\r\n");
    if (!end) {
        if (c->filled == ROOM) fail("the head of an answer is too long");
        return 0;
    }
    if (c->data[9] != '2') fail("%s", c->data);
    char *length = field(c->data, "Content-Length"), *coding = length ? NULL : field(c->data, "Transfer-Encoding");
    c->left = length ? strtoull(length, NULL, 10) : 0;
    c->state = coding && !c->is_head ? IN_SIZE : IN_BODY;
    if (c->is_head) c->left = 0;
    take(c, (size_t)(end + 4 - c->data));
    return 1;
}

static int read_size(struct connection *c) {
    char *end = strstr(c->data, "\r\n");
    if (!end) return 0;
    c->left = strtoull(c->data, NULL, 16);
    c->is_last = !c->left;
    c->left += 2; /* the line's end behind the chunk */
    take(c, (size_t)(end + 2 - c->data));
    c->state = IN_CHUNK;
    return 1;
}

/* Reads on in what has come; true where the answer has ended. */
static int advance(struct worker *w, struct connection *c) {
    for (;;) {
        size_t part;
        switch (c->state) {
        case IN_HEAD:
            if (!read_head(c)) return 0;
            break;
        case IN_SIZE:
            if (!read_size(c)) return 0;
            break;
        default:
            part = c->filled < c->left ? c->filled : c->left;
            take(c, part), c->left -= part, w->bytes += part;
            if (c->left) return 0;
            if (c->state == IN_BODY || c->is_last) return 1;
            c->state = IN_SIZE;
        }
    }
}

static void note(struct worker *w, double since) {
    size_t place = (size_t)((now() - since) * 1e6);
    w->buckets[place < BUCKETS ? place : BUCKETS - 1]++;
    w->count++;
}

/* ---------------------------------------------------------------- many */

static void open_connection(struct connection *c) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    int one = 1;
    inet_pton(AF_INET, host, &address.sin_addr);
    c->socket = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(c->socket, (struct sockaddr *)&address, sizeof address)) fail("connect: %s", strerror(errno));
    setsockopt(c->socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(c->socket, F_SETFL, O_NONBLOCK);
}

/* What has come; true while the connection is to be waited for. */
static int serve(struct worker *w, struct connection *c) {
    for (;;) {
        ssize_t got = recv(c->socket, c->data + c->filled, ROOM - c->filled, 0);
        if (got < 0 && errno == EAGAIN) return 1;
        if (got <= 0) fail("the server closed a connection");
        c->filled += (size_t)got;
        c->data[c->filled] = 0;
        if (advance(w, c)) {
            note(w, c->since);
            return send_next(w, c);
        }
    }
}

static void *work(void *argument) {
    struct worker *w = argument;
    struct epoll_event events[EVENTS];
    struct connection *all = calloc((size_t)w->connections, sizeof *all);
    int poll = epoll_create1(0), open = 0;
    for (int i = 0; i < w->connections; i++) {
        open_connection(&all[i]);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &all[i]};
        epoll_ctl(poll, EPOLL_CTL_ADD, all[i].socket, &event);
    }
    for (int i = 0; i < w->connections; i++) open += send_next(w, &all[i]);
    while (open && !is_over()) {
        int count = epoll_wait(poll, events, EVENTS, 100);
        for (int i = 0; i < count; i++) open -= !serve(w, events[i].data.ptr);
    }
    return NULL;
}

static double percentile(struct worker *workers, int threads, size_t count, double share) {
    size_t seen = 0, wanted = (size_t)((double)count * share);
    for (size_t place = 0; place < BUCKETS; place++) {
        for (int i = 0; i < threads; i++) seen += workers[i].buckets[place];
        if (seen > wanted) return (double)place / 1000;
    }
    return 0;
}

static void read_requests(void) {
    size_t room = 1 << 16, size = 0, got, places = 16;
    char *text = malloc(room + 1);
    while ((got = fread(text + size, 1, room - size, stdin))) {
        size += got;
        if (size == room) text = realloc(text, (room *= 2) + 1);
    }
    text[size] = 0;
    requests = malloc(places * sizeof *requests);
    for (char *at = text, *end; (end = strstr(at, "\r\n\r\n")); at = end + 4) {
        if (request_count == places) requests = realloc(requests, (places *= 2) * sizeof *requests);
        size_t length = (size_t)(end + 4 - at);
        if (length > LONGEST) fail("a request is too long");
        char *mark = memmem(at, length, "@@@@@@@@@@@@@@@@", MARK);
        requests[request_count++] = (struct request){at, mark, length, !strncmp(at, "HEAD ", 5)};
    }
    if (!request_count) fail("no requests on standard input");
}

int main(int count, char **words) {
    if (count != 6) fail("see the top of ask.c");
    int threads = atoi(words[3]), connections = atoi(words[4]);
    host = words[1], port = words[2], seconds_limit = atof(words[5]);
    if (threads < 1 || connections < threads || connections > 10000) fail("1 ≤ THREADS ≤ CONNECTIONS ≤ 10000");
    read_requests();
    struct worker *workers = calloc((size_t)threads, sizeof *workers);
    worker_count = threads;
    began = now();
    for (int i = 0; i < threads; i++) {
        workers[i] = (struct worker){.number = i, .connections = connections / threads + (i < connections % threads)};
        workers[i].buckets = calloc(BUCKETS, sizeof(uint32_t));
        if (pthread_create(&workers[i].id, NULL, work, &workers[i])) fail("no more threads");
    }
    size_t requests_done = 0, bytes = 0;
    for (int i = 0; i < threads; i++) {
        pthread_join(workers[i].id, NULL);
        requests_done += workers[i].count, bytes += workers[i].bytes;
    }
    printf("{\"count\": %zu, \"bytes\": %zu, \"seconds\": %.6f, \"p50_ms\": %.3f, \"p99_ms\": %.3f}\n", requests_done,
           bytes, now() - began, percentile(workers, threads, requests_done, 0.5),
           percentile(workers, threads, requests_done, 0.99));
    return 0;
}
