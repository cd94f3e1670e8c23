/* Processes of the kinds that the tests of src/process watch. Each waits for the end of its standard input. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static char **rest;

static void say(const char *word) {
    puts(word);
    fflush(stdout);
}

static void wait_for_end_of_input(void) {
    char c;
    while (read(0, &c, 1) > 0) {}
}

static int connect_to(const char *path) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    strncpy(to.sun_path, path, sizeof to.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) < 0) {
        perror("connect");
        exit(1);
    }
    return fd;
}

/* Waits until /proc shows the first thread as ended, so that nobody has to guess when that is. */
static void *outlive_the_first_thread(void *unused) {
    (void)unused;
    char line[512] = "", *state;
    do {
        FILE *stat = fopen("/proc/self/stat", "r");
        if (!stat || !fgets(line, sizeof line, stat)) exit(1);
        fclose(stat);
        state = strrchr(line, ')');
    } while (!state || state[2] != 'Z');
    say("first thread ended");
    wait_for_end_of_input();
    exit(0);
}

static void *exec_the_rest(void *unused) {
    (void)unused;
    execv(rest[0], rest);
    perror("execv");
    exit(1);
}

int main(int argc, char **argv) {
    const char *kind = argc > 1 ? argv[1] : "";
    rest = argv + 2;
    if (!strcmp(kind, "wait")) {
        say("ready");
        wait_for_end_of_input();
    } else if (!strcmp(kind, "exec")) { /* KIND PROGRAM ARG…: when told, from the first thread */
        say("ready");
        if (getchar() == EOF) return 1;
        exec_the_rest(NULL);
    } else if (!strcmp(kind, "exec-from-thread")) { /* the same, from another thread */
        say("ready");
        if (getchar() == EOF) return 1;
        pthread_t thread;
        pthread_create(&thread, NULL, exec_the_rest, NULL);
        pause();
    } else if (!strcmp(kind, "first-thread-ends")) {
        pthread_t thread;
        pthread_create(&thread, NULL, outlive_the_first_thread, NULL);
        pthread_exit(NULL);
    } else if (!strcmp(kind, "threads")) { /* prints the number of a thread that is not the first */
        pthread_t thread;
        pthread_create(&thread, NULL, (void *(*)(void *))wait_for_end_of_input, NULL);
        if (system("ls /proc/$PPID/task | tail -n 1")) return 1;
        pthread_join(thread, NULL);
    } else if (!strcmp(kind, "connect")) { /* KIND PATH */
        connect_to(rest[0]);
        say("connected");
        wait_for_end_of_input();
    } else if (!strcmp(kind, "connect-and-hand-on")) { /* its child keeps the connection and writes to it at the end */
        int fd = connect_to(rest[0]);
        if (fork() == 0) {
            say("child holds it");
            wait_for_end_of_input();
            return write(fd, "x", 1) != 1;
        }
        pause();
    } else if (!strcmp(kind, "subreaper")) { /* KIND PROGRAM ARG…: becomes one, then execs */
        prctl(PR_SET_CHILD_SUBREAPER, 1);
        exec_the_rest(NULL);
    } else {
        fprintf(stderr, "unknown kind %s\n", kind);
        return 2;
    }
    return 0;
}
