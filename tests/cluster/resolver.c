/* A resolver for tests, loaded before libc's: names that end in ".test" stand for addresses of this machine, and take
 * ten seconds while the file $SLOW exists. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int lookup(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    lookup *real = (lookup *)dlsym(RTLD_NEXT, "getaddrinfo");
    if (node == NULL || strlen(node) < 5 || strcmp(node + strlen(node) - 5, ".test") != 0)
        return real(node, service, hints, found);
    if (access(getenv("SLOW"), F_OK) == 0)
        sleep(10);
    const char *first = strncmp(node, "dark", 4) == 0 ? "127.0.0.2" : strncmp(node, "both", 4) == 0 ? "::1" : NULL;
    int error = real("127.0.0.1", service, hints, found);
    if (error || first == NULL)
        return error;
    struct addrinfo *last = *found;
    error = real(first, service, hints, found);
    if (error)
        return error;
    (*found)->ai_next = last;
    return 0;
}
