/* Load for the benchmarks: blobs pushed, blobs pulled, manifests pushed, by threads that each keep one connection.
 *
 *   load pull      HOST PORT THREADS HEADER PATH
 *   load put       HOST PORT THREADS HEADER REPOSITORY BLOCK SIZE SECONDS < digests
 *   load patch     the same, as docker does it: POST, PATCH in chunks of 32 KiB, PUT
 *   load manifests HOST PORT THREADS HEADER REPOSITORY BODY SECONDS RATE
 *
 * HEADER is sent with every request ("Authorization: Bearer …"), or is empty. Blob number n is made from the file
 * BLOCK (1 MiB) by writing n into its first bytes, so that its digest can be known before; line n of the input is that
 * digest. BODY holds sixteen '@', which become a number. RATE is manifests per second, 0 for as many as go.
 * Work ends after SECONDS (0: no limit) or with the last blob. Prints one line of JSON:
 *   {"count": N, "bytes": N, "seconds": S, "p50_ms": T, "p99_ms": T}
 * An answer that is not the expected one ends the program with exit code 1 and that answer on stderr.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <arpa/inet.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { MIB = 1 << 20, CHUNK = 32 << 10, HEAD = 16 << 10, SAMPLES = 1 << 20, MARK = 16, LONGEST_BODY = 64 << 10 };

static const char *host, *port, *header, *repository;
static char *block, *body, **digests;
static size_t blob_size, body_size, digest_count;
static double seconds_limit, rate, began;
static atomic_size_t next_job, done_jobs, done_bytes, sample_count;
static float *samples;
static int chunked;

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

static void count(double since, size_t bytes) {
    size_t place = atomic_fetch_add(&sample_count, 1);
    if (place < SAMPLES) samples[place] = (float)((now() - since) * 1000);
    atomic_fetch_add(&done_jobs, 1);
    atomic_fetch_add(&done_bytes, bytes);
}

/* ---------------------------------------------------------------- connection */

struct connection {
    int socket;
    char head[HEAD + 1];    /* the head of the last answer and what came with it */
    size_t filled, head_size;
};

static void open_connection(struct connection *c) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    int one = 1;
    inet_pton(AF_INET, host, &address.sin_addr);
    c->socket = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(c->socket, (struct sockaddr *)&address, sizeof address)) fail("connect: %s", strerror(errno));
    setsockopt(c->socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static void send_parts(struct connection *c, struct iovec *parts, int count) {
    while (count) {
        ssize_t sent = writev(c->socket, parts, count > IOV_MAX ? IOV_MAX : count);
        if (sent < 0) fail("the server closed the connection while it was sent to: %s", strerror(errno));
        while (count && (size_t)sent >= parts->iov_len) sent -= (ssize_t)parts->iov_len, parts++, count--;
        if (count) parts->iov_base = (char *)parts->iov_base + sent, parts->iov_len -= (size_t)sent;
    }
}

static void send_text(struct connection *c, const char *text, size_t size) {
    struct iovec part = {(void *)text, size};
    send_parts(c, &part, 1);
}

/* The value of a header of the last answer, or NULL. */
static char *field(struct connection *c, const char *name) {
    size_t length = strlen(name);
    for (char *line = strstr(c->head, "\r\n"); line && line[2] != '\r'; line = strstr(line + 2, "\r\n"))
        if (!strncasecmp(line + 2, name, length) && line[2 + length] == ':') return line + 3 + length + 1;
    return NULL;
}

static size_t discard(struct connection *c, size_t size) {
    static __thread char *sink;
    if (!sink) sink = malloc(MIB);
    for (size_t left = size; left;) {
        /* MSG_TRUNC: TCP drops the bytes without copying them, so that the client costs next to nothing. */
        ssize_t got = recv(c->socket, sink, left < 16 * MIB ? left : 16 * MIB, MSG_TRUNC);
        if (got <= 0) fail("an answer ended %zu bytes early", left);
        left -= (size_t)got;
    }
    return size;
}

/* Reads one answer to its end; returns the bytes of its body. */
static size_t receive(struct connection *c, int expected) {
    char *end = NULL;
    c->filled = 0;
    do {
        ssize_t got = recv(c->socket, c->head + c->filled, HEAD - c->filled, 0);
        if (got <= 0) fail("no answer: %s", got ? strerror(errno) : "the server closed the connection");
        c->filled += (size_t)got;
        c->head[c->filled] = 0;
        end = strstr(c->head, "\r\n\r\n");
    } while (!end && c->filled < HEAD);
    if (!end) fail("the head of an answer is too long");
    int status = atoi(c->head + 9);
    if (status != expected) fail("status %d instead of %d:\n%s", status, expected, c->head);
    char *length = field(c, "Content-Length");
    if (!length && field(c, "Transfer-Encoding")) fail("a chunked answer was not expected:\n%s", c->head);
    size_t size = length ? strtoull(length, NULL, 10) : 0;
    size_t here = c->filled - (size_t)(end + 4 - c->head);
    return size > here ? here + discard(c, size - here) : size;
}

static void ask(struct connection *c, const char *method, const char *path, const char *more) {
    char text[HEAD];
    int size = snprintf(text, sizeof text, "%s %s HTTP/1.1\r\nHost: %s:%s\r\n%s%s%s\r\n", method, path, host, port,
                        header, *header ? "\r\n" : "", more);
    send_text(c, text, (size_t)size);
}

/* ---------------------------------------------------------------- pull */

static void *pull(void *path) {
    struct connection c;
    open_connection(&c);
    double since = now();
    ask(&c, "GET", path, "Accept-Encoding: identity\r\n");
    count(since, receive(&c, 200));
    close(c.socket);
    return NULL;
}

/* ---------------------------------------------------------------- push of blobs */

/* The path of the last answer's Location, its query included, with `more` behind it. */
static void location(struct connection *c, char *path, size_t size, const char *more) {
    char *found = field(c, "Location");
    if (!found) fail("an answer has no Location:\n%s", c->head);
    while (*found == ' ') found++;
    if (!strncmp(found, "http", 4)) found = strchr(strstr(found, "//") + 2, '/');
    int length = (int)strcspn(found, "\r\n");
    const char *separator = !*more ? "" : memchr(found, '?', (size_t)length) ? "&" : "?";
    snprintf(path, size, "%.*s%s%s", length, found, separator, more);
}

static void send_part(struct connection *c, uint64_t number, size_t offset, size_t size) {
    uint64_t name[2] = {number, offset};
    struct iovec parts[2] = {{name, sizeof name}, {block + sizeof name, size - sizeof name}};
    send_parts(c, parts, 2);
}

static void send_chunks(struct connection *c, uint64_t number, size_t offset, size_t size) {
    uint64_t name[2] = {number, offset};
    struct iovec parts[4 * (MIB / CHUNK) + 1];
    char sizes[MIB / CHUNK][16];
    int used = 0;
    for (size_t at = 0, chunk = 0; at < size; at += CHUNK, chunk++) {
        size_t length = size - at < CHUNK ? size - at : CHUNK, skip = at ? 0 : sizeof name;
        parts[used++] = (struct iovec){sizes[chunk], (size_t)sprintf(sizes[chunk], "%zx\r\n", length)};
        if (!at) parts[used++] = (struct iovec){name, sizeof name};
        parts[used++] = (struct iovec){block + at + skip, length - skip};
        parts[used++] = (struct iovec){(char *)"\r\n", 2};
    }
    send_parts(c, parts, used);
}

static void send_blob(struct connection *c, uint64_t number) {
    for (size_t offset = 0; offset < blob_size; offset += MIB) {
        size_t size = blob_size - offset < MIB ? blob_size - offset : MIB;
        (chunked ? send_chunks : send_part)(c, number, offset, size);
    }
    if (chunked) send_text(c, "0\r\n\r\n", 5);
}

static void push_blob(struct connection *c, uint64_t number) {
    char path[HEAD], more[256];
    snprintf(path, sizeof path, "/v2/%s/blobs/uploads/", repository);
    ask(c, "POST", path, "Content-Length: 0\r\n");
    receive(c, 202);
    if (chunked) {
        location(c, path, sizeof path, "");
        ask(c, "PATCH", path, "Content-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n");
        send_blob(c, number);
        receive(c, 202);
    }
    snprintf(more, sizeof more, "digest=%s", digests[number]);
    location(c, path, sizeof path, more);
    snprintf(more, sizeof more, "Content-Type: application/octet-stream\r\nContent-Length: %zu\r\n",
             chunked ? 0 : blob_size);
    ask(c, "PUT", path, more);
    if (!chunked) send_blob(c, number);
    receive(c, 201);
}

static int is_time_up(void) { return seconds_limit > 0 && now() - began > seconds_limit; }

static void *push(void *unused) {
    struct connection c;
    open_connection(&c);
    for (size_t number; !is_time_up() && (number = atomic_fetch_add(&next_job, 1)) < digest_count;) {
        double since = now();
        push_blob(&c, number);
        count(since, blob_size);
    }
    close(c.socket);
    return unused;
}

/* ---------------------------------------------------------------- push of manifests */

static void *manifests(void *unused) {
    struct connection c;
    char path[512], more[256], own[LONGEST_BODY], number_text[MARK + 1];
    memcpy(own, body, body_size + 1);
    char *mark = strstr(own, "@@@@@@@@@@@@@@@@");
    if (!mark) fail("the body of the manifest has no sixteen '@'");
    snprintf(more, sizeof more, "Content-Type: application/vnd.oci.image.manifest.v1+json\r\nContent-Length: %zu\r\n",
             body_size);
    open_connection(&c);
    while (!is_time_up()) {
        size_t number = atomic_fetch_add(&next_job, 1);
        double due = rate > 0 ? began + (double)number / rate - now() : 0;
        if (due > 0) usleep((useconds_t)(due * 1e6));
        double since = now();
        sprintf(number_text, "%016zu", number);
        memcpy(mark, number_text, MARK);
        snprintf(path, sizeof path, "/v2/%s/manifests/n%zu", repository, number);
        ask(&c, "PUT", path, more);
        send_text(&c, own, body_size);
        receive(&c, 201);
        count(since, body_size);
    }
    close(c.socket);
    return unused;
}

/* ---------------------------------------------------------------- all of it */

static char *slurp(FILE *file, size_t *size) {
    size_t room = 1 << 16, got;
    char *text = malloc(room + 1);
    if (!file) fail("a file that was named cannot be read: %s", strerror(errno));
    for (*size = 0; (got = fread(text + *size, 1, room - *size, file)); *size += got)
        if (*size + got == room) text = realloc(text, (room *= 2) + 1);
    text[*size] = 0;
    return text;
}

static void read_digests(void) {
    size_t size, room = 1 << 10;
    digests = malloc(room * sizeof *digests);
    for (char *line = strtok(slurp(stdin, &size), "\n"); line; line = strtok(NULL, "\n")) {
        if (digest_count == room) digests = realloc(digests, (room *= 2) * sizeof *digests);
        digests[digest_count++] = line;
    }
}

static int by_size(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void print_result(void) {
    double seconds = now() - began;
    size_t kept = sample_count < SAMPLES ? sample_count : SAMPLES;
    qsort(samples, kept, sizeof *samples, by_size);
    printf("{\"count\": %zu, \"bytes\": %zu, \"seconds\": %.6f, \"p50_ms\": %.3f, \"p99_ms\": %.3f}\n", done_jobs,
           done_bytes, seconds, kept ? samples[kept / 2] : 0, kept ? samples[kept * 99 / 100] : 0);
}

int main(int count, char **words) {
    void *(*work)(void *) = NULL;
    size_t size;
    if (count < 7) fail("see the top of load.c");
    const char *kind = words[1];
    int threads = atoi(words[4]);
    host = words[2], port = words[3], header = words[5], repository = words[6];
    samples = malloc(SAMPLES * sizeof *samples);
    if (!strcmp(kind, "pull")) work = pull;
    if (!strcmp(kind, "manifests") && count == 10) {
        work = manifests, body = slurp(fopen(words[7], "rb"), &body_size);
        seconds_limit = atof(words[8]), rate = atof(words[9]);
        if (body_size >= LONGEST_BODY) fail("the body of the manifest is too long");
    }
    if ((!strcmp(kind, "put") || !strcmp(kind, "patch")) && count == 10) {
        work = push, chunked = !strcmp(kind, "patch"), block = slurp(fopen(words[7], "rb"), &size);
        blob_size = strtoull(words[8], NULL, 10), seconds_limit = atof(words[9]);
        if (size < MIB) fail("the block is shorter than 1 MiB");
        read_digests();
    }
    if (!work) fail("see the top of load.c");
    pthread_t ids[1024];
    began = now();
    if (threads < 1 || threads > 1024) fail("1 to 1,024 threads");
    for (int i = 0; i < threads; i++)
        if (pthread_create(&ids[i], NULL, work, words[6])) fail("no more threads");
    for (int i = 0; i < threads; i++) pthread_join(ids[i], NULL);
    print_result();
    return 0;
}
