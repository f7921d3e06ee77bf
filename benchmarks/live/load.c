/* The load client of bench-live: many WebSocket clients in one epoll loop, each checking that nothing is lost.
 *
 *   load PROGRESS_FILE HOST PORT PATH CLIENTS PROTOCOLS_FILE DIALECT
 *
 * Every event carries "~NUMBER;NANOSECONDS~": the numbers of one run are 1, 2, 3 ..., the time is when it was due on
 * the monotonic clock. Several events may share a WebSocket message. The counts are in PROGRESS_FILE (struct progress),
 * which the driver reads meanwhile. The program ends when its standard input ends.
 * PROTOCOLS_FILE has a line per client with the sub-protocols that it asks for. After its end it is read again.
 * DIALECT is "plain" or "socketio" (Engine.IO 4 over WebSocket: answer its open and its pings).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BUCKETS 1024       /* of a logarithmic histogram: 16 per power of two of a microsecond */
#define AT_ONCE 16         /* handshakes at the same time; daphne gives each five seconds */
#define CHUNK (256 * 1024) /* bytes per read; one buffer for all clients, so that it stays in the cache */

/* progress.py depends on the order of the fields. */
struct progress {
    uint64_t open, closed, deliveries, lost, disordered, messages, bytes, slowest;
    uint64_t latency[BUCKETS];
};

enum state { CONNECTING, HANDSHAKE, OPEN, CLOSED };
enum marker { OUTSIDE, IN_NUMBER, IN_TIME };

struct client {
    int fd;
    enum state state;
    enum marker marker;
    unsigned char head[14]; /* of a WebSocket frame, or of the HTTP answer its last four bytes */
    unsigned head_length;
    unsigned char opcode, first[125]; /* the payload of a control frame, the first two bytes of another */
    unsigned first_length;
    uint64_t payload_left, number, time, last;
};

static struct progress *progress;
static struct client *clients;
static unsigned count, started, opening;
static const char *host, *port, *path;
static FILE *protocols;
static int epoll, is_socketio;
static unsigned char chunk[CHUNK];

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static unsigned bucket_of(uint64_t microseconds) {
    if (microseconds < 16)
        return (unsigned)microseconds;
    unsigned power = 63 - (unsigned)__builtin_clzll(microseconds);
    unsigned bucket = (power - 3) * 16 + (unsigned)((microseconds >> (power - 4)) & 15);
    return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

static void drop(struct client *c) {
    if (c->state == CLOSED)
        return;
    if (c->state == OPEN)
        progress->open--;
    else
        opening--;
    c->state = CLOSED;
    progress->closed++;
    close(c->fd);
}

static void send_all(struct client *c, const void *data, size_t length) {
    if (send(c->fd, data, length, MSG_NOSIGNAL) != (ssize_t)length)
        drop(c);
}

/* A short frame. Its mask is zero, which is a valid mask. */
static void send_frame(struct client *c, unsigned char opcode, const void *data, unsigned length) {
    unsigned char frame[6 + 125] = {0x80 | opcode, 0x80 | length};
    memcpy(frame + 6, data, length);
    send_all(c, frame, 6 + length);
}

static void begin(struct client *c) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    inet_pton(AF_INET, host, &address.sin_addr);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0)
        fail("socket");
    int one = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->state = CONNECTING;
    opening++;
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS)
        fail("connect");
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
    epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event);
}

static void shake_hands(struct client *c) {
    char request[4096], line[3000] = "", protocol[3072] = "";
    if (!fgets(line, sizeof line, protocols)) {
        rewind(protocols);
        if (!fgets(line, sizeof line, protocols))
            *line = 0;
    }
    line[strcspn(line, "\n")] = 0;
    if (*line)
        snprintf(protocol, sizeof protocol, "Sec-WebSocket-Protocol: %s\r\n", line);
    int length = snprintf(request, sizeof request,
                          "GET %s HTTP/1.1\r\nHost: %s:%s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s\r\n",
                          path, host, port, protocol);
    c->state = HANDSHAKE;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &event);
    send_all(c, request, (size_t)length);
}

static void take_event(struct client *c, uint64_t now) {
    progress->deliveries++;
    if (c->number <= c->last) {
        progress->disordered++;
        return;
    }
    progress->lost += c->number - c->last - 1;
    c->last = c->number;
    progress->latency[bucket_of(now > c->time ? (now - c->time) / 1000 : 0)]++;
}

/* Find marks. A mark may begin in this read and end in the next. */
static void take_payload(struct client *c, const unsigned char *data, size_t length, uint64_t now) {
    const unsigned char *end = data + length;
    while (data < end) {
        if (c->marker == OUTSIDE) {
            data = memchr(data, '~', (size_t)(end - data));
            if (!data)
                return;
            data++;
            c->marker = IN_NUMBER;
            c->number = c->time = 0;
            continue;
        }
        unsigned char byte = *data++;
        if (byte >= '0' && byte <= '9') {
            uint64_t *value = c->marker == IN_NUMBER ? &c->number : &c->time;
            *value = *value * 10 + (uint64_t)(byte - '0');
        } else if (byte == ';' && c->marker == IN_NUMBER) {
            c->marker = IN_TIME;
        } else {
            if (byte == '~' && c->marker == IN_TIME)
                take_event(c, now);
            c->marker = OUTSIDE;
        }
    }
}

static void end_of_message(struct client *c) {
    progress->messages++;
    c->marker = OUTSIDE;
    if (c->opcode == 8)
        drop(c);
    else if (c->opcode == 9)
        send_frame(c, 10, c->first, c->first_length);
    else if (is_socketio && c->first_length && c->first[0] == '0')
        send_frame(c, 1, "40", 2);
    else if (is_socketio && c->first_length == 1 && c->first[0] == '2')
        send_frame(c, 1, "3", 1);
}

/* Read the header of a frame: its opcode and the length of its payload. Return 0 if it is not complete yet. */
static int parse_head(struct client *c) {
    unsigned short_length = c->head[1] & 127;
    unsigned needed = short_length == 127 ? 10 : short_length == 126 ? 4 : 2;
    if (c->head_length < 2 || c->head_length < needed)
        return 0;
    c->payload_left = needed == 2 ? short_length : 0;
    for (unsigned i = 2; i < needed; i++)
        c->payload_left = c->payload_left << 8 | c->head[i];
    c->opcode = c->head[0] & 15;
    c->head_length = c->first_length = 0;
    return 1;
}

static void take_frames(struct client *c, const unsigned char *data, size_t length, uint64_t now) {
    while (length && c->state == OPEN) {
        if (!c->payload_left) {
            c->head[c->head_length++] = *data++;
            length--;
            if (!parse_head(c) || c->payload_left)
                continue;
            end_of_message(c);
            continue;
        }
        size_t here = length < c->payload_left ? length : (size_t)c->payload_left;
        unsigned kept = c->opcode < 8 ? 2 : sizeof c->first;
        for (size_t i = 0; i < here && c->first_length < kept; i++)
            c->first[c->first_length++] = data[i];
        if (c->opcode < 8)
            take_payload(c, data, here, now);
        data += here;
        length -= here;
        c->payload_left -= here;
        if (!c->payload_left)
            end_of_message(c);
    }
}

/* Skip the HTTP answer. Frames follow its empty line. */
static void take_answer(struct client *c, const unsigned char *data, size_t length, uint64_t now) {
    for (size_t i = 0; i < length; i++) {
        memmove(c->head, c->head + 1, 3);
        c->head[3] = data[i];
        if (memcmp(c->head, "\r\n\r\n", 4) == 0) {
            c->state = OPEN;
            c->head_length = 0;
            opening--;
            progress->open++;
            take_frames(c, data + i + 1, length - i - 1, now);
            return;
        }
    }
}

static void read_from(struct client *c) {
    ssize_t length = recv(c->fd, chunk, sizeof chunk, 0);
    if (length <= 0) {
        if (length == 0 || (errno != EAGAIN && errno != EINTR))
            drop(c);
        return;
    }
    uint64_t now = now_ns();
    progress->bytes += (uint64_t)length;
    if (c->state == HANDSHAKE) {
        if (!c->head_length && (length < 12 || memcmp(chunk, "HTTP/1.1 101", 12) != 0)) {
            fprintf(stderr, "refused: %.*s\n", length > 200 ? 200 : (int)length, chunk);
            drop(c);
            return;
        }
        c->head_length = 1;
        take_answer(c, chunk, (size_t)length, now);
    } else {
        take_frames(c, chunk, (size_t)length, now);
    }
}

static void find_slowest(void) {
    uint64_t slowest = UINT64_MAX;
    for (unsigned i = 0; i < count; i++)
        if (clients[i].state == OPEN && clients[i].last < slowest)
            slowest = clients[i].last;
    progress->slowest = slowest == UINT64_MAX ? 0 : slowest;
}

int main(int argc, char **argv) {
    if (argc != 8) {
        fprintf(stderr, "usage: load PROGRESS_FILE HOST PORT PATH CLIENTS PROTOCOLS_FILE DIALECT\n");
        return 2;
    }
    host = argv[2], port = argv[3], path = argv[4];
    protocols = fopen(argv[6], "r");
    if (!protocols)
        fail(argv[6]);
    count = (unsigned)atoi(argv[5]);
    is_socketio = strcmp(argv[7], "socketio") == 0;
    int file = open(argv[1], O_RDWR | O_CREAT, 0600);
    if (file < 0 || ftruncate(file, sizeof *progress) < 0)
        fail(argv[1]);
    progress = mmap(NULL, sizeof *progress, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    clients = calloc(count, sizeof *clients);
    epoll = epoll_create1(0);
    if (progress == MAP_FAILED || !clients || epoll < 0)
        fail("start");
    struct epoll_event events[256], input = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = NULL};
    epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &input);
    for (;;) {
        while (started < count && opening < AT_ONCE)
            begin(&clients[started++]);
        int ready = epoll_wait(epoll, events, 256, 1000);
        for (int i = 0; i < ready; i++) {
            struct client *c = events[i].data.ptr;
            if (!c)
                return 0; /* the input has ended */
            if (c->state == CONNECTING)
                shake_hands(c);
            else if (c->state != CLOSED)
                read_from(c);
        }
        find_slowest();
    }
}
