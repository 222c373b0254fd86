# The command on CPUs; docs/docker.md says how to run it.
FROM python:3.11-slim

COPY . /src
RUN pip install --no-cache-dir "/src[models]" && rm -r /src

# Fetched models and compiled programs: a volume here keeps them. As /tmp, so that it serves any --user.
RUN install -d -m 1777 /cache
ENV TIPIM_CACHE=/cache

USER 1000:1000
WORKDIR /photos
ENTRYPOINT ["tipim"]
CMD ["--help"]
