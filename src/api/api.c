#include "api/api.h"

int
api_run(const Config *config, const Kinds *kinds, const ConfigArgs *args)
{
    (void)config;
    (void)kinds;
    (void)args;
    return 1;
}
