#include <stdlib.h>

const char *greeting(void) {
    const char *words = getenv("GREETING");
    return words ? words : "hello";
}
