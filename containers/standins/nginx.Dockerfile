# Stands in for the official image of nginx where none can be pulled. That one has an entry point, which hands on what is
# no nginx command.
ARG ROOT
FROM ${ROOT}
STOPSIGNAL SIGQUIT
EXPOSE 80
CMD ["nginx", "-g", "daemon off;"]
