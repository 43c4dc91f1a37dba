from selfsup.train import main

if __name__ == "__main__":
    main()
